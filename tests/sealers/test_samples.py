"""Tokens of each kind as they were written once: they open for ever, whatever becomes of the code.

A sample that does not open any more is no reason to make a new one: somebody's session has just been lost.
"""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from aiosessions import AESGCMSealer, Claims, HMACSealer, JWTSealer, Sealer
from tests.sealers.jwt_keys import AUDIENCE, ISSUER

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
NAME = "shop:app"
NOW = 1_900_000_000.0

VALUE = Claims(
    body=b'{"cart":[1,2.50],"note":"h\xc3\xa9llo"}',
    is_reference=False,
    session_id="Zm9vYmFyYmF6cXV1eHh5eg1-",
    issued_at=1_800_000_000.0,
    expires_at=4_102_444_800.0,
    user_id="Ann \u0416",
    meta=b"\x00\xff meta",
)
REFERENCE = replace(
    VALUE,
    body=b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4_",
    is_reference=True,
    user_id=None,
    meta=b"",
)
ENDLESS = replace(VALUE, issued_at=1_800_000_000.25, expires_at=None)

SAMPLES: dict[str, tuple[Callable[[], Sealer], Claims, str]] = {
    "AESGCM, a value": (
        lambda: AESGCMSealer(KEY),
        VALUE,
        (
            "AWxLdDt6wR86hQNKCzK-ICMHF-GAsIwzhj8cbZnQZWqP8a7MVJtjS1jyWEUmzvSm9UYyY6BYiQou3quUEHbHIED3MO9Y61rbiFI1"
            "txYMqyAZRUwOXfP5etdqOGyezHhc7WdHITsWZJkB7Xcspam4k8dfryUGIF3sOz7bt9KI2dwrlDve_kVj29-zIQOuBw"
        ),
    ),
    "AESGCM, a reference": (
        lambda: AESGCMSealer(KEY),
        REFERENCE,
        (
            "AWxLdDt61CiRJOmMJZyHufLUnSMFMuJioKtX1XLMryDLaDcAy7NV_jwVKg1QPkb6J7agEGILzinAvZKrFUXrU-AG0imPW1XMMe_1"
            "txd_skFYSsb3LlBQEDfJIWT5zVaMEi1iZdEvxMTT1aHoyqSs721ZGQIv6aP_7b8IlZcUhbNvZMxOxdCrXhArSb7sIxvBfafOh4A1"
            "ffkuOA5MQMQI0w"
        ),
    ),
    "AESGCM, without an end": (
        lambda: AESGCMSealer(KEY),
        ENDLESS,
        (
            "AWxLdDt6poPbx858VJqfxmI5yQ1fjrPSYEAZC7Iv3Z5wLtNMp_IYXTzNN02gdWzDhUCFraFStLoZHyRYCHogBrNaNgPW-2sM-MV4"
            "LZqAVljyEKHI4hyvogGXEjmkcFjUAM03dgb5r6U8tJMUSzWqYr9qwHUJZv68nqs4P112WFEQ0fTjD2A"
        ),
    ),
    "HMAC, a value": (
        lambda: HMACSealer(KEY),
        VALUE,
        (
            "AWxLdDt6.eyJzZXNzaW9uIjp7ImNhcnQiOlsxLDIuNTBdLCJub3RlIjoiaMOpbGxvIn0sImp0aSI6IlptOXZZbUZ5WW1GNmNYVjF"
            "lSGg1ZWcxLSIsImlhdCI6MTgwMDAwMDAwMC4wLCJleHAiOjQxMDI0NDQ4MDAuMCwic3ViIjoiQW5uINCWIiwibWV0YSI6IkFQOGd"
            "iV1YwWVEiLCJub25jZSI6IlJzYVZldmFXazR5UkZ1SWEifQ.YVNGNJOagvem4E8ywZNgchkRsW_Esre211-_yQCTstc"
        ),
    ),
    "HMAC, a reference": (
        lambda: HMACSealer(KEY),
        REFERENCE,
        (
            "AWxLdDt6.eyJzaWQiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R4QVJFaE1VRlJZWEdCa2FHeHdkSGg4Z0lTSWpKQ1VtSnlncEtpc3N"
            "MUzRfIiwianRpIjoiWm05dlltRnlZbUY2Y1hWMWVIaDVlZzEtIiwiaWF0IjoxODAwMDAwMDAwLjAsImV4cCI6NDEwMjQ0NDgwMC4"
            "wLCJub25jZSI6ImZrZFVTMFg5VE5nOU9fRlQifQ.Q49K0974VPHiqjNYPrmFFDykfAzZVQ9C2OIak7bVTHw"
        ),
    ),
    "HMAC, without an end": (
        lambda: HMACSealer(KEY),
        ENDLESS,
        (
            "AWxLdDt6.eyJzZXNzaW9uIjp7ImNhcnQiOlsxLDIuNTBdLCJub3RlIjoiaMOpbGxvIn0sImp0aSI6IlptOXZZbUZ5WW1GNmNYVjF"
            "lSGg1ZWcxLSIsImlhdCI6MTgwMDAwMDAwMC4yNSwic3ViIjoiQW5uINCWIiwibWV0YSI6IkFQOGdiV1YwWVEiLCJub25jZSI6Ilh"
            "VOVlOZkh0NXg5aVplbEMifQ.uljtCj9KlAbL8akXAuxxq1nHH6gHRxt_mYqMPHuYaiA"
        ),
    ),
    "JWT, a value": (
        lambda: JWTSealer(KEY),
        VALUE,
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6ImFpb3Nlc3Npb25zK2p3dCIsImtpZCI6ImJFdDBPM28ifQ.eyJhdWQiOiJzaG9wOmFwcCIsI"
            "mlhdCI6MTgwMDAwMDAwMCwiZXhwIjo0MTAyNDQ0ODAwLCJqdGkiOiJabTl2WW1GeVltRjZjWFYxZUhoNWVnMS0iLCJzdWIiOiJBb"
            "m4g0JYiLCJzZXNzaW9uIjp7ImNhcnQiOlsxLDIuNTBdLCJub3RlIjoiaMOpbGxvIn0sImFpb3Nlc3Npb25zIjp7InYiOjEsIm1ld"
            "GEiOiJBUDhnYldWMFlRIiwibm9uY2UiOiJaN0N4WmVtRHdrNjFlUXo0In19.Jw60CSuk_LX3IPeLyx9BCjs-0CbCowRePCOoqYRK"
            "IYw"
        ),
    ),
    "JWT, a reference": (
        lambda: JWTSealer(KEY),
        REFERENCE,
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6ImFpb3Nlc3Npb25zK2p3dCIsImtpZCI6ImJFdDBPM28ifQ.eyJhdWQiOiJzaG9wOmFwcCIsI"
            "mlhdCI6MTgwMDAwMDAwMCwiZXhwIjo0MTAyNDQ0ODAwLCJqdGkiOiJabTl2WW1GeVltRjZjWFYxZUhoNWVnMS0iLCJzaWQiOiJBQ"
            "UVDQXdRRkJnY0lDUW9MREEwT0R4QVJFaE1VRlJZWEdCa2FHeHdkSGg4Z0lTSWpKQ1VtSnlncEtpc3NMUzRfIiwiYWlvc2Vzc2lvb"
            "nMiOnsidiI6MSwibm9uY2UiOiJMV1pUeGRiQ0lnTW9QTXQwIn19.doXHKON77NRFFK-OhhDRgIs_8YL16r-3RPyMDMF31P8"
        ),
    ),
    "JWT with an audience, a value": (
        lambda: JWTSealer(KEY, issuer=ISSUER, audience=AUDIENCE),
        VALUE,
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6ImFpb3Nlc3Npb25zK2p3dCIsImtpZCI6ImJFdDBPM28ifQ.eyJpc3MiOiJodHRwczovL2lzc"
            "3Vlci5leGFtcGxlIiwiYXVkIjoiaHR0cHM6Ly9zaG9wLmV4YW1wbGUiLCJpYXQiOjE4MDAwMDAwMDAsImV4cCI6NDEwMjQ0NDgwM"
            "CwianRpIjoiWm05dlltRnlZbUY2Y1hWMWVIaDVlZzEtIiwic3ViIjoiQW5uINCWIiwic2Vzc2lvbiI6eyJjYXJ0IjpbMSwyLjUwX"
            "Swibm90ZSI6ImjDqWxsbyJ9LCJhaW9zZXNzaW9ucyI6eyJ2IjoxLCJuYW1lIjoic2hvcDphcHAiLCJtZXRhIjoiQVA4Z2JXVjBZU"
            "SIsIm5vbmNlIjoic0R2ek9UUThzMDBDVjZiaCJ9fQ.Lt4qpy992Kvcd77isUM8wOmxEp_EiTV00FczbR-t8ww"
        ),
    ),
    "JWT with an audience, a reference": (
        lambda: JWTSealer(KEY, issuer=ISSUER, audience=AUDIENCE),
        REFERENCE,
        (
            "eyJhbGciOiJIUzI1NiIsInR5cCI6ImFpb3Nlc3Npb25zK2p3dCIsImtpZCI6ImJFdDBPM28ifQ.eyJpc3MiOiJodHRwczovL2lzc"
            "3Vlci5leGFtcGxlIiwiYXVkIjoiaHR0cHM6Ly9zaG9wLmV4YW1wbGUiLCJpYXQiOjE4MDAwMDAwMDAsImV4cCI6NDEwMjQ0NDgwM"
            "CwianRpIjoiWm05dlltRnlZbUY2Y1hWMWVIaDVlZzEtIiwic2lkIjoiQUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQ"
            "mthR3h3ZEhoOGdJU0lqSkNVbUp5Z3BLaXNzTFM0XyIsImFpb3Nlc3Npb25zIjp7InYiOjEsIm5hbWUiOiJzaG9wOmFwcCIsIm5vb"
            "mNlIjoiNW9EaW9QY3NqTk01WGptUiJ9fQ.HrWA_BzU7K08DnSpX_FH44IGug_k1-Tn0VmxZnJfXq4"
        ),
    ),
    "JWT, encrypted, a value": (
        lambda: JWTSealer(KEY, encrypt=True),
        VALUE,
        (
            "eyJhbGciOiJBMjU2S1ciLCJlbmMiOiJBMjU2R0NNIiwidHlwIjoiYWlvc2Vzc2lvbnMrand0Iiwia2lkIjoiYkV0ME8zbyJ9.vYK"
            "ZcTwcgPQNzxP1o8cj2rZTjI0ChOJGGVxSw9NSmHWHUrZwBlZk9g.CGWG6yqbR25sYO9D._yZkDgnrm9ZGoKule4LaiQ1hQ_2d8PY"
            "leqB5WC77zmYPc6FyPxWjj2K1Iy0jEeED0oCy9FJdBjt0o3o_HaN7f_YxbaPkuGDaZLXEch-gyh-xn9FQwCYaUU5MENe7GqG4sp8"
            "eo8KtMbY58FhPpsLL7PdWskUATb8Xo0gQhNY2zw_yjmW8xqaa-XRIlbK5Tt6IVGrcDnyHWjU2A4qbwHLkR7SMLy56goGO76Dgro7"
            "odfFnX-RJBhkNuQ0t.dLH46ygnLShlqpKJiyNwFA"
        ),
    ),
    "JWT, encrypted, a reference": (
        lambda: JWTSealer(KEY, encrypt=True),
        REFERENCE,
        (
            "eyJhbGciOiJBMjU2S1ciLCJlbmMiOiJBMjU2R0NNIiwidHlwIjoiYWlvc2Vzc2lvbnMrand0Iiwia2lkIjoiYkV0ME8zbyJ9.UK5"
            "LyWnoanQs_wVzkQsm37kRqYelxbjeDeMF_voEgDQM5ccIJf3Okw.gKk1SLWuxK-8B5bf.zrLw1ZKE1AmgB5ucYQY7Uu96zD8NhU4"
            "00F1Y83gNgtdBgFsE3xL2b2avcuy9RE7aEq7rC4rpT0Qtkh18zf_8sd5AjzvuIzD3xd8CyPgEGoq_B5PmwR7PNMOhVYRQ0OrHtvS"
            "Kpve2e3i1NVTynVYTqI_tWqfeYAL15sYwWiqeITxnpxSLncZbzezNyn6ajxsAuGanZqcdb0sswF8NT-1q872zigJE4DAoTN4R1xj"
            "Fkell7FQQ.9V4KscoKHU1uK4GIe1I75w"
        ),
    ),
}


@pytest.mark.parametrize(("make_sealer", "claims", "token"), SAMPLES.values(), ids=SAMPLES)
def test_a_stored_token_opens_for_ever(make_sealer: Callable[[], Sealer], claims: Claims, token: str) -> None:
    """F7, F8: with the very claims that were sealed; only under its name, and until its end."""
    sealer = make_sealer()

    assert sealer.open(token, name=NAME, now=NOW) == claims
    assert sealer.open(token, name="app", now=NOW) is None
    if claims.expires_at is not None:
        assert sealer.open(token, name=NAME, now=claims.expires_at) is None


@pytest.mark.parametrize(("make_sealer", "claims", "token"), SAMPLES.values(), ids=SAMPLES)
def test_a_token_of_today_has_the_shape_of_the_stored_one(
    make_sealer: Callable[[], Sealer], claims: Claims, token: str
) -> None:
    """F8: as long in each part, so that servers of both versions can share sessions while one is deployed."""
    fresh = make_sealer().seal(claims, name=NAME)

    assert [len(part) for part in fresh.split(".")] == [len(part) for part in token.split(".")]
    assert fresh[:8] == token[:8]
