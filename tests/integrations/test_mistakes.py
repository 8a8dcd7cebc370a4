"""What cannot work is refused where an adapter is set up, with what to write instead."""

from typing import Any

import pytest
from aiohttp import web
from quart import Quart
from starlette.applications import Starlette

from aiosessions import (
    ConfigError,
    CookieOptions,
    CookieTransport,
    HeaderTransport,
    MemoryStorer,
    StorageOverseer,
    Transport,
)
from aiosessions.aiohttp import setup
from aiosessions.asgi import SessionMiddleware
from aiosessions.litestar import SessionPlugin
from aiosessions.quart import init_app

STORE = StorageOverseer(dict[str, int], MemoryStorer())
TEXTS = StorageOverseer(str, MemoryStorer())


class Unopened:
    """A store that nobody can open."""

    get = require = save = update = None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stores": STORE}, "stores: StorageOverseer is no list of stores: write stores=[store]"),
        ({"stores": None}, "stores: NoneType is no list of stores: write stores=[store]"),
        ({"stores": "redis://:secret@host"}, "stores: str is no list of stores: write stores=[store]"),
        ({"stores": [MemoryStorer()]}, "stores: MemoryStorer is a storer: give the overseer that uses it"),
        ({"stores": [StorageOverseer]}, "stores: StorageOverseer is a class: give a store that was made"),
        ({"stores": ["app"]}, "stores: str is no store: give the store itself, a StorageOverseer or CookieOverseer"),
        ({"stores": [Unopened()]}, "stores: Unopened is no async context manager, and so cannot be opened"),
        ({"stores": [STORE, TEXTS]}, "stores: two are called 'app' on one transport: give one of them another name="),
        ({"refresh": STORE}, "refresh: StorageOverseer is no list of stores: write refresh=[store]"),
        ({"refresh": [MemoryStorer()]}, "refresh: MemoryStorer is a storer: give the overseer that uses it"),
        ({"refresh": [(STORE,)]}, "refresh: give a store, or (store, name)"),
        ({"refresh": [(STORE, None)]}, "refresh: give a store, or (store, name)"),
        ({"refresh": [(STORE, "../x")]}, "refresh: name='../x': a session's name is a letter and at most 63 letters"),
        ({"request_session": MemoryStorer()}, "request_session: MemoryStorer is a storer: give the overseer that uses"),
        (
            {"request_session": TEXTS},
            "request_session: the sessions of <StorageOverseer app of str> are no mappings: give a store of dict[str, ",
        ),
        (
            {"origins": "https://a.example"},
            "origins='https://a.example': give a list: origins=['https://shop.example']",
        ),
        ({"origins": [1]}, "origins: 1 is no origin: write it like 'https://shop.example'"),
        ({"on_save_error": "page"}, "on_save_error: give an async function of a scope and an error"),
    ],
)
def test_the_middleware_says_what_to_write(options: dict[str, Any], message: str) -> None:
    """F10, V8: and not what was given, which may be a URL with a password."""
    with pytest.raises(ConfigError) as raised:
        SessionMiddleware(Starlette(), **options)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"app": MemoryStorer()}, "stores: MemoryStorer is a storer: give the overseer that uses it"),
        ({"a": STORE, "b": TEXTS}, "stores: two are called 'app' on one transport"),
        ({"origins": STORE}, "origins: a store cannot be called so, it is an option: give it another name"),
        ({"refresh": STORE}, "refresh: a store cannot be called so, it is an option: give it another name"),
        ({"refresh": [MemoryStorer()]}, "refresh: MemoryStorer is a storer"),
        ({"origins": ["shop"], "app": STORE}, "origins: 'shop' is no origin"),
    ],
)
def test_litestars_plugin_says_what_to_write(options: dict[str, Any], message: str) -> None:
    """F10."""
    with pytest.raises(ConfigError) as raised:
        SessionPlugin(**options)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("framework", ["aiohttp", "quart"])
@pytest.mark.parametrize(
    ("stores", "options", "message"),
    [
        ([[STORE]], {}, "stores: list is no store: give the store itself"),
        ([MemoryStorer()], {}, "stores: MemoryStorer is a storer"),
        ([STORE, TEXTS], {}, "stores: two are called 'app' on one transport"),
        ([], {"refresh": STORE}, "refresh: StorageOverseer is no list of stores"),
        ([], {"origins": "https://a.example"}, "origins='https://a.example': give a list"),
    ],
)
def test_functions_say_what_to_write(framework: str, stores: list[Any], options: dict[str, Any], message: str) -> None:
    """F10."""
    app: Any = Quart(__name__) if framework == "quart" else web.Application()
    set_up: Any = init_app if framework == "quart" else setup
    with pytest.raises(ConfigError) as raised:
        set_up(app, *stores, **options)
    assert str(raised.value).startswith(message)


def test_the_same_store_twice_and_one_name_on_two_transports_are_no_mistake() -> None:
    """R5: a header, and cookies of two paths."""
    transports: list[Transport] = [HeaderTransport()]
    transports += (CookieTransport(CookieOptions(path=path)) for path in ("/a", "/b"))
    stores = [StorageOverseer(str, MemoryStorer(), transport=transport) for transport in transports]
    SessionMiddleware(Starlette(), stores=(*stores, stores[0], STORE))
