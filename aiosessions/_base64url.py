"""Base64url without padding (RFC 4648 §5, RFC 7515 §2), in one spelling only.

The standard library's decoder skips characters it does not know and ignores spare bits at the end, so that many texts
mean the same bytes. A token must have one spelling: here any other is no text at all.
"""

import binascii

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")  # "!" is in no alphabet: the strict decoder refuses it
_PADDING = {2: b"==", 3: b"="}
_LAST = {2: "AQgw", 3: "AEIMQUYcgkosw048"}  # what may stand last when 4 or 2 bits are to spare: they are zero


def encode(raw: bytes) -> str:
    """The text of *raw*."""
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes | None:
    """The bytes that *text* stands for; None unless `encode` would give exactly this text."""
    if not text.isascii():
        return None

    data = text.encode("ascii").translate(_FROM_URL)
    spare = len(data) & 3
    if spare:
        if spare == 1 or text[-1] not in _LAST[spare]:
            return None
        data += _PADDING[spare]

    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except binascii.Error:
        return None
