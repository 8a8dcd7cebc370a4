"""Encrypted tokens: what is in them is nobody's business but the server's."""

import os
import threading
from collections.abc import Iterator
from weakref import WeakSet

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aiosessions import _base64url
from aiosessions._errors import EncodeError
from aiosessions.sealers.keys import Key
from aiosessions.sealers.ring import BoundKeys, KeyRing, RingSealer
from aiosessions.sealers.sealer import Claims

__all__ = ["XAES256GCM", "AESGCMSealer"]

_VERSION = 1
_HALF = 12  # bytes of a nonce
_MESSAGES = 1 << 16  # under one first half
_KEPT = 128  # ciphers that opened something: one for each process of a fleet, and some that it had before
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, bool, str, float, float | None, str | None, bytes]).decode


class AESGCMSealer(RingSealer["_Bound"]):
    """Encrypts claims with XAES-256-GCM, bound to key, name, format version and expiry.

    A token is base64url without padding of

        version (1 byte) | key id (5) | nonce (24) | AES-256-GCM of MessagePack [body, is_reference, session_id,
        issued_at, expires_at, user_id, meta], and its tag (16)

    The key is derived by HKDF-SHA256 from the ring's key, *info* being purpose, version and name; version, key id and
    name are the associated data. The key id finds the key in one step, whatever the length of the ring. There is one
    decoder and no fall-back to a weaker one.

    **Why XAES.** The nonce of plain AES-GCM has 96 bits. Drawn at random it may serve 2^32 messages per key (NIST SP
    800-38D §8.3), which a busy site sends in months, and one repetition gives the key of the authentication away.
    XAES-256-GCM (https://c2sp.org/XAES-256-GCM) takes 192 bits: the first half makes a key, under which the second half
    is the nonce. Here a process draws the first half once for 2^16 messages, as the key that it makes costs more than
    all the rest, and the second half for each message:

    - Two messages repeat a nonce if they share the first half, and their second halves collide. Under one first half
      that is one of 2^31 pairs, each with probability 2^-96: 2^-65. After 2^48 messages under one key (a million per
      second for nine years) it is 2^-33, less than the 2^-32 that NIST allows a key. Two processes that draw the same
      first half add 2^-97 to that. (With all 192 bits drawn for each message it would be 2^80 messages.)
    - What a repetition gives away is the difference of those two messages, and forgeries under that first half.
    - No counter is kept, so that nothing can be counted twice: a child process forgets the first half (it would do no
      harm), and a virtual machine that is cloned goes on with second halves of its own, as far as its operating system
      draws them anew; drawing all 192 bits asks no less of it.
    - Tokens show the first half: which of them one process sealed, and none of what is in them.

    Args:
        keys: one or several, newest first; see `Key`. The first active one seals, all open.
        reseal: also replace a token under an older key when it is read; else at the session's next write.

    Raises:
        ConfigError: a key is weak, or none is active.
    """

    needs_json = False

    __slots__ = ()

    @staticmethod
    def _bind(ring: KeyRing) -> "BoundKeys[_Bound]":
        return BoundKeys(ring, _Bound, version=_VERSION)

    def seal(self, claims: Claims, *, name: str) -> str:
        """The token. Raises EncodeError for a text in the claims that has no UTF-8 form (a lone surrogate)."""
        bound = self._bound.sealing(name, claims.issued_at)
        try:
            message = _encode(
                (
                    claims.body,
                    claims.is_reference,
                    claims.session_id,
                    claims.issued_at,
                    claims.expires_at,
                    claims.user_id,
                    claims.meta,
                )
            )
        except UnicodeEncodeError:
            raise EncodeError("the user id or session id is not valid Unicode: it has a lone surrogate") from None

        return bound.prefix + _base64url.encode(bound.cipher.seal(message, bound.associated))

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        """The claims; None for a token that is forged, expired, of another name, or under no key of the ring."""
        bound = self._bound.opening(name, token)
        if bound is None:
            return None

        sealed = _base64url.decode(token[len(bound.prefix) :])
        if sealed is None:
            return None

        message = bound.cipher.decrypt(sealed[: 2 * _HALF], sealed[2 * _HALF :], bound.associated)
        if message is None:
            return None

        try:
            claims = Claims(*_decode(message))
        except msgspec.MsgspecError:
            return None  # sealed by our key, and not written by this code: a later version's, perhaps
        if claims.expires_at is not None and now >= claims.expires_at:
            return None
        return claims


class XAES256GCM:
    """AES-256-GCM with 192-bit nonces: https://c2sp.org/XAES-256-GCM.

    Each first half of a nonce makes a key of its own, by a KDF in counter mode over AES-CMAC (NIST SP 800-108r1 §4.1);
    the second half is the nonce under that key. Ciphers under such keys are kept: the one that seals, for the number of
    messages that AESGCMSealer gives its reasons for, and those that opened something, since forgeries must displace
    nothing.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("__weakref__", "_block", "_lock", "_mask", "_opened", "_sealing")

    def __init__(self, key: bytes) -> None:
        self._block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305  the block cipher itself
        # The two CMAC blocks are 00 0i 58 00 | nonce half, each xored with the CMAC subkey K1. As K1 and the four first
        # bytes never change, they are one number, and a nonce is brought in by one xor.
        subkey = int.from_bytes(self._block.update(bytes(16)), "big") << 1
        if subkey >> 128:
            subkey ^= (1 << 128) | 0x87
        first, second = (subkey ^ (head << 96) for head in (0x00015800, 0x00025800))
        self._mask = first << 128 | second
        self._opened: dict[bytes, AESGCM] = {}
        self.forget()
        _ciphers.add(self)

    def forget(self) -> None:
        """Seal under another first half from now on: in a child process, which shares it with its parent."""
        self._sealing: tuple[bytes, AESGCM, Iterator[int]] | None = None
        self._lock = threading.Lock()  # another thread of the parent may have held it

    def seal(self, message: bytes, associated: bytes) -> bytes:
        """A nonce of its own, the encrypted *message* and its tag: 40 bytes longer."""
        sealing = self._sealing
        if sealing is None or next(sealing[2], None) is None:
            half = os.urandom(_HALF)
            sealing = self._sealing = half, self._cipher(half), iter(range(_MESSAGES - 1))
        rest = os.urandom(_HALF)
        return sealing[0] + rest + sealing[1].encrypt(rest, message, associated)

    def encrypt(self, nonce: bytes, message: bytes, associated: bytes) -> bytes:
        """The encrypted *message* and its tag, 16 bytes longer. Never use a nonce of 24 bytes twice."""
        return self._cipher(nonce[:_HALF]).encrypt(nonce[_HALF:], message, associated)

    def decrypt(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
        """The message, or None if anything of it was changed or cut off."""
        if len(nonce) != 2 * _HALF:
            return None

        half = nonce[:_HALF]
        known = self._opened.get(half)
        cipher = known or self._cipher(half)
        try:
            message = cipher.decrypt(nonce[_HALF:], sealed, associated)
        except InvalidTag:
            return None
        if known is None:
            self._keep(half, cipher)
        return message

    def _cipher(self, half: bytes) -> AESGCM:
        number = int.from_bytes(half, "big")
        blocks = ((number << 128 | number) ^ self._mask).to_bytes(32, "big")
        with self._lock:  # the context refuses two threads at once where there is no global interpreter lock
            return AESGCM(self._block.update(blocks))

    def _keep(self, half: bytes, cipher: AESGCM) -> None:
        with self._lock:
            if len(self._opened) >= _KEPT:
                del self._opened[next(iter(self._opened))]
            self._opened[half] = cipher


_ciphers = WeakSet[XAES256GCM]()


def _forget() -> None:
    for cipher in _ciphers:
        cipher.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, where no process forks
    os.register_at_fork(after_in_child=_forget)


class _Bound:
    """What one key is for one name."""

    __slots__ = ("associated", "cipher", "prefix")

    def __init__(self, key: Key, prefix: str, name: str) -> None:
        # The prefix has a fixed length and the name comes last: no two pairs give the same bytes.
        self.associated = prefix.encode("ascii") + name.encode("utf-8", "surrogatepass")
        self.cipher = XAES256GCM(key.derive(b"aiosessions XAES-256-GCM\x00" + self.associated))
        self.prefix = prefix
