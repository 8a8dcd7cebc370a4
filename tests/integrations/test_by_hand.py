"""Without a middleware: `await store.save(session, response)`, and what happens when it is forgotten."""

import json
import subprocess
import sys

import pytest

from aiosessions._stores import openable
from tests.integrations.stage import ASYNCIO, Backend, Case, Stage

pytestmark = pytest.mark.anyio

# Litestar makes its responses after the handler: there a plugin saves
FRAMEWORKS = ["starlette", "fastapi", "quart", "aiohttp"]


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return ASYNCIO


@pytest.fixture(params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize(
    ("keeps", "travels", "sealer"),
    [("storage", "cookie", "plain"), ("storage", "header", "jwt"), ("client", "cookie", "aesgcm")],
)
async def test_saving_by_hand_does_what_a_middleware_does(
    framework: str, keeps: str, travels: str, sealer: str
) -> None:
    """R14, R2, R4: one write, one token, `no-store`, `Vary`."""
    stage = Stage(Case(framework, keeps, travels, sealer))
    stage.house.is_managed = False
    async with openable([stage.house.store])[0], stage.open() as browser:
        response = await browser.get("/by_hand")
        assert response.text.startswith("1 new")
        assert len(stage.told(response)) == 1
        assert response.headers["cache-control"] == "no-store"
        assert "vary" in response.headers
        assert stage.calls() == (["create"] if stage.case.is_stored else [])

        response = await browser.get("/by_hand")
        assert response.text.startswith("2 known")
        assert stage.calls() == (["read", "replace"] if stage.case.is_stored else [])


async def test_saving_without_a_response_is_refused_while_nothing_is_written(framework: str) -> None:
    """R14, R11: a new token has no way to the client, and says so; the record is not made."""
    stage = Stage(Case(framework, "storage", "cookie", "plain"))
    stage.house.is_managed = False
    async with stage.open() as browser:
        assert (await browser.get("/save")).status == 500
        assert await stage.storer.stored() == []


FORGETFUL = """
import asyncio, json, warnings
from datetime import timedelta
from types import SimpleNamespace
from multidict import CIMultiDict
from aiosessions import (
    AESGCMSealer, CookieOverseer, Lifetime, MemoryStorer, StorageOverseer, UnsavedSessionWarning, new_key
)
from aiosessions.testing import signed_in

async def change(store, session): session["count"] = 1
async def log_in(store, session): session.set_user("ann")
async def flash(store, session): session.flash("hello")
async def spoil(store, session): session["count"] = object()
async def read(store, session): session.get("count")
async def save(store, session):
    session["count"] = 1
    await store.save(session, SimpleNamespace(headers=CIMultiDict()))

async def warned(store, handler):
    request = SimpleNamespace(headers={}, scope={"type": "http", "scheme": "https", "headers": []})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await handler(store, await store.get(request))
        del request
    return any(issubclass(each.category, UnsavedSessionWarning) for each in caught)

async def main():
    for store in (StorageOverseer(dict, MemoryStorer()), CookieOverseer(dict, AESGCMSealer(new_key()))):
        handlers = (change, log_in, flash, spoil, read, save)
        print(json.dumps([handler.__name__ for handler in handlers if await warned(store, handler)]))

    timed = StorageOverseer(dict, MemoryStorer(), lifetime=Lifetime(cookie=timedelta(1), touch=timedelta(0)))
    cookie = (await signed_in(timed, "ann")).headers["Cookie"]
    request = SimpleNamespace(headers={}, scope={
        "type": "http", "scheme": "https", "headers": [(b"cookie", cookie.encode())]
    })
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert (await timed.get(request)).user_id == "ann"
        del request
    print(json.dumps([str(each.message) for each in caught]))

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", ["dev", "utf8"])
def test_a_forgotten_save_warns_in_development_mode(mode: str) -> None:
    """R14: UnsavedSessionWarning, under `python -X dev` and nowhere else; not for what was read or saved.

    R15: nor for a timed cookie that could have been sent again.
    """
    ran = subprocess.run([sys.executable, "-X", mode, "-c", FORGETFUL], capture_output=True, text=True, check=True)
    forgotten = ["change", "log_in", "flash", "spoil"] if mode == "dev" else []
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [forgotten, forgotten, []]
