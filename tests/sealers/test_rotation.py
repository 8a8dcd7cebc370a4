"""The rotation drill: three processes share sessions while the key changes twice."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from aiosessions.sealers.keys import new_key

NOW = 1_800_000_000.0

# One line of JSON in, one out: a process of an application, with a ring that it is told to exchange.
WORKER = """
import json, sys
from datetime import UTC, datetime
from aiosessions import AESGCMSealer, Claims, HMACSealer, JWTSealer, Key

def ring(keys):
    return [Key(key, not_before=None if at is None else datetime.fromtimestamp(at, UTC)) for key, at in keys]

sealer = None
for line in sys.stdin:
    kind, keys, token, now = json.loads(line)
    answer = True
    if keys is not None and sealer is None:
        sealer = {"AESGCM": AESGCMSealer, "HMAC": HMACSealer, "JWT": JWTSealer}[kind](ring(keys))
    elif keys is not None:
        sealer.reload(ring(keys))
    elif token is None:
        answer = sealer.seal(Claims(b"{}", False, "an-id", now, now + 3600, "ann", b""), name="app")
    else:
        answer = sealer.open(token, name="app", now=now) is not None
    print(json.dumps(answer), flush=True)
"""


class Worker:
    """One process of an application."""

    def __init__(self, kind: str, stack: ExitStack) -> None:
        self._kind = kind
        self._process = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert self._process.stdin is not None
        stack.callback(self._process.stdin.close)

    def use(self, *keys: tuple[str, float | None]) -> None:
        self._ask(keys, None, NOW)

    def seal(self, now: float) -> str:
        token: str = self._ask(None, None, now)
        return token

    def opens(self, token: str) -> bool:
        opened: bool = self._ask(None, token, NOW)
        return opened

    def _ask(self, keys: Any, token: str | None, now: float) -> Any:  # Any: JSON out and JSON in
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([self._kind, keys, token, now]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(params=["AESGCM", "HMAC", "JWT"])
def workers(request: pytest.FixtureRequest) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield [Worker(request.param, stack) for _ in range(3)]


def test_nobody_is_logged_out_while_the_key_changes_twice(workers: list[Worker]) -> None:
    """F7: each process learns of each change at another moment; a removed key's tokens are just new sessions."""
    first, second, third = (new_key() for _ in range(3))
    tokens: list[str] = []

    def everybody_opens_everything(now: float) -> None:
        tokens.extend(worker.seal(now) for worker in workers)
        for worker in workers:
            assert all(worker.opens(token) for token in tokens)

    for worker in workers:
        worker.use((first, None))
    everybody_opens_everything(NOW)
    under_first = list(tokens)

    # The second key is announced to one process after the other, and seals from NOW + 60 on.
    for worker in workers:
        worker.use((second, NOW + 60), (first, None))
        everybody_opens_everything(NOW + 1)
    everybody_opens_everything(NOW + 61)
    under_first_or_second = list(tokens)

    # The third likewise, while the first is still there for those who have not been seen since.
    for worker in workers:
        worker.use((third, NOW + 120), (second, None), (first, None))
        everybody_opens_everything(NOW + 62)
    everybody_opens_everything(NOW + 121)

    tokens = tokens[-3:]
    for worker in workers:
        worker.use((third, None))
    everybody_opens_everything(NOW + 122)
    for worker in workers:
        assert not any(worker.opens(token) for token in [*under_first, *under_first_or_second])
