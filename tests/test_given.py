"""What cannot work is refused when a store is made, with the fix, and without what was given: a URL has a password."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from aiosessions import (
    AESGCMSealer,
    ConfigError,
    CookieOverseer,
    CookieTransport,
    MemoryStorer,
    MessagePackCodec,
    StorageOverseer,
    new_key,
)
from aiosessions.testing.suites_store import Visitor

URL = "redis://ann:secret@localhost"


class Half:
    async def read(self, key: str) -> None: ...

    async def create(self, key: str, record: object) -> None: ...


def stored(storer: Any, **options: Any) -> object:
    return StorageOverseer(dict[str, int], storer, **options)


def held(sealer: Any, **options: Any) -> object:
    return CookieOverseer(dict[str, int], sealer, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stored(URL), r"storer=str has no read\(\), .*: give a storer, as storer_from_url\(\.\.\.\) makes one"),
        (lambda: stored(None), r"storer=NoneType has no read\(\)"),
        (
            lambda: stored(MemoryStorer),
            r"storer: MemoryStorer is a class: give one that was made, MemoryStorer\(\.\.\.\)",
        ),
        (lambda: stored(Half()), r"storer=Half has no replace\(\), touch\(\), delete\(\)"),
        (lambda: stored(MemoryStorer(), transport=CookieTransport), "transport: CookieTransport is a class"),
        (lambda: stored(MemoryStorer(), transport="cookie"), r"transport=str has no read\(\), .*give CookieTransport"),
        (lambda: stored(MemoryStorer(), default={"a": 1}), "default=dict cannot be called"),
        (lambda: stored(MemoryStorer(), sealer=URL), r"sealer=str has no seal\(\), open\(\)"),
        (lambda: held(new_key()), r"sealer=str has no seal\(\), open\(\): give a sealer, as AESGCMSealer\(keys\)"),
        (lambda: held(AESGCMSealer), "sealer: AESGCMSealer is a class"),
        (lambda: held(AESGCMSealer(new_key()), revocations=URL), r"revocations=str has no read\(\)"),
        (lambda: held(AESGCMSealer(new_key()), codec=MessagePackCodec), "codec"),
    ],
)
def test_a_part_that_is_none_is_refused(make: Callable[[], object], message: str) -> None:
    """F10: it names the argument and the fix."""
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "secret" not in str(caught.value)


@pytest.mark.anyio
async def test_what_a_session_is_asked_wrongly_says_what_to_write() -> None:
    """V7, F10: TypeErrors, before anything else."""
    store = StorageOverseer(dict[str, int], MemoryStorer())
    async with Visitor().visit() as visit:
        session = await store.get(visit.request)
        wrong: Any = None  # Any: the mistake
        with pytest.raises(TypeError, match=r"clear_user\(\) unbinds"):
            session.set_user(wrong)
        wrong = 300
        with pytest.raises(TypeError, match=r"not int: write timedelta\(minutes=5\)"):
            session.require_fresh(wrong)
        session.set_user("ann")
        assert session.require_fresh(timedelta(minutes=5)) == "ann"
