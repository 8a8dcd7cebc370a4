"""CSRF tokens: what a session takes for its own, and what it does not."""

from typing import Any

import pytest

from aiosessions import MemoryStorer, Session, StorageOverseer
from aiosessions.testing.suites_store import Visitor

pytestmark = pytest.mark.anyio


class Text(str):
    """What a framework may hand over for a form's field."""

    __slots__ = ()


@pytest.fixture
async def session() -> Session[str]:
    async with Visitor().visit() as visit:
        return await StorageOverseer(str, MemoryStorer()).get(visit.request)


async def test_a_session_knows_its_own_tokens(session: Session[str]) -> None:
    """F6: no two are alike, and each is good."""
    tokens = {session.csrf_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(session.check_csrf(Text(token)) for token in tokens)


STRANGE: list[Any] = [  # Any: what a form or a JSON document may hold
    None,
    0,
    True,
    1.5,
    b"A" * 43,
    [],
    {},
    object(),
    "",
    "A",
    "A" * 43,
    "A" * 44,
    "A" * 1_000_000,
    "=" * 43,
    " " * 43,
    "é" * 43,
    "\ud800" * 43,
    "\u0661" * 43,
    "\x00" * 43,
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda strange: ascii(strange)[:20])
async def test_what_is_no_token_is_refused_without_an_error(session: Session[str], strange: Any) -> None:
    """F6, R6: a form without the field gives None; also for a session that has no key yet."""
    assert session.check_csrf(strange) is False
    session.csrf_token()
    assert session.check_csrf(strange) is False


async def test_a_token_has_one_spelling(session: Session[str]) -> None:
    """F6: no padding, white space, other alphabet or spare bits."""
    tokens = [session.csrf_token() for _ in range(100)]  # with "-" and "_" in some
    token = tokens[0]
    spare = token[:-1] + chr(ord(token[-1]) + 1)
    for other in (f"{token}=", f"{token}==", f"{token}\n", f" {token}", f"{token}.", token[:-1], spare):
        assert not session.check_csrf(other)
    for token in tokens:
        other = token.replace("-", "+").replace("_", "/")
        assert session.check_csrf(other) == (other == token)
