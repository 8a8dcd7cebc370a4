"""What a token costs: sealing and opening the claims of a session of eight keys, and XAES alone."""

from collections.abc import Callable
from functools import partial
from time import thread_time_ns

import msgspec

from aiosessions import AESGCMSealer, Claims, HMACSealer, JWTSealer, Sealer, new_key
from aiosessions.sealers.aesgcm import XAES256GCM
from tests.benchmarks.measure import Effort
from tests.benchmarks.table import Table

__all__ = ["sealers"]

_TIMES = 5_000


async def sealers(effort: Effort) -> list[Table]:
    """Each sealer, once each way."""
    body = msgspec.json.encode({f"key{number}": f"value {number}" for number in range(8)})
    claims = Claims(
        body, is_reference=False, session_id="s" * 22, issued_at=0.0, expires_at=9e9, user_id="ann", meta=b""
    )
    made: dict[str, Sealer] = {
        "AESGCMSealer": AESGCMSealer(new_key()),
        "HMACSealer": HMACSealer(new_key()),
        "JWTSealer (HS256)": JWTSealer(new_key()),
    }
    rows: dict[str, dict[str, float]] = {}
    for name, sealer in made.items():
        token = sealer.seal(claims, name="app")
        rows[name] = {
            "seal": _microseconds(effort, partial(sealer.seal, claims, name="app")),
            "open": _microseconds(effort, partial(sealer.open, token, name="app", now=1.0)),
        }
    xaes, nonce = XAES256GCM(bytes(range(32))), bytes(24)
    sealed = xaes.encrypt(nonce, body, b"")
    rows["XAES-256-GCM alone"] = {
        "seal": _microseconds(effort, partial(xaes.encrypt, nonce, body, b"")),
        "open": _microseconds(effort, partial(xaes.decrypt, nonce, sealed, b"")),
    }
    return [Table("Tokens: µs each", ("seal", "open"), rows)]


def _microseconds(effort: Effort, work: Callable[[], object]) -> float:
    best, times = float("inf"), effort.of(_TIMES)
    for _ in range(effort.rounds):
        start = thread_time_ns()
        for _ in range(times):
            work()
        best = min(best, (thread_time_ns() - start) / times / 1000)
    return best
