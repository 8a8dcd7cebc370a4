"""Encrypted tokens: what is in them is nobody's business but the server's."""

import os
import threading

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
_NONCE = 24  # bytes
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
    XAES-256-GCM (https://c2sp.org/XAES-256-GCM) takes 192 random bits: 2^80 messages. It costs two AES blocks and a key
    schedule more: sealing and opening a session of eight keys takes about 4 µs each, of which the whole cipher takes 2
    (Python 3.11, two shared cores; `nox -s bench -- sealers` measures it on yours).

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

        nonce = os.urandom(_NONCE)
        return bound.prefix + _base64url.encode(nonce + bound.cipher.encrypt(nonce, message, bound.associated))

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        """The claims; None for a token that is forged, expired, of another name, or under no key of the ring."""
        bound = self._bound.opening(name, token)
        if bound is None:
            return None

        sealed = _base64url.decode(token[len(bound.prefix) :])
        if sealed is None:
            return None

        message = bound.cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound.associated)
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

    Each message gets a key of its own, made of the first half of the nonce by a KDF in counter mode over AES-CMAC (NIST
    SP 800-108r1 §4.1); the second half is the nonce under that key.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_block", "_lock", "_mask")

    def __init__(self, key: bytes) -> None:
        self._block = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305  the block cipher itself
        self._lock = threading.Lock()
        # The two CMAC blocks are 00 0i 58 00 | nonce half, each xored with the CMAC subkey K1. As K1 and the four first
        # bytes never change, they are one number, and a nonce is brought in by one xor.
        subkey = int.from_bytes(self._block.update(bytes(16)), "big") << 1
        if subkey >> 128:
            subkey ^= (1 << 128) | 0x87
        first, second = (subkey ^ (head << 96) for head in (0x00015800, 0x00025800))
        self._mask = first << 128 | second

    def encrypt(self, nonce: bytes, message: bytes, associated: bytes) -> bytes:
        """The encrypted *message* and its tag, 16 bytes longer. Never use a nonce of 24 bytes twice."""
        return self._cipher(nonce).encrypt(nonce[12:], message, associated)

    def decrypt(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
        """The message, or None if anything of it was changed or cut off."""
        if len(nonce) != _NONCE:
            return None
        try:
            return self._cipher(nonce).decrypt(nonce[12:], sealed, associated)
        except InvalidTag:
            return None

    def _cipher(self, nonce: bytes) -> AESGCM:
        half = int.from_bytes(nonce[:12], "big")
        blocks = ((half << 128 | half) ^ self._mask).to_bytes(32, "big")
        with self._lock:  # the context refuses two threads at once where there is no global interpreter lock
            return AESGCM(self._block.update(blocks))


class _Bound:
    """What one key is for one name."""

    __slots__ = ("associated", "cipher", "prefix")

    def __init__(self, key: Key, prefix: str, name: str) -> None:
        # The prefix has a fixed length and the name comes last: no two pairs give the same bytes.
        self.associated = prefix.encode("ascii") + name.encode("utf-8", "surrogatepass")
        self.cipher = XAES256GCM(key.derive(b"aiosessions XAES-256-GCM\x00" + self.associated))
        self.prefix = prefix
