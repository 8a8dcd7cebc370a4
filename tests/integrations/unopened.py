"""Applications of each kind whose store cannot be opened: a server is to refuse them."""

import quart
from litestar import Litestar
from starlette.applications import Starlette
from starlette.middleware import Middleware

from aiosessions import StorageOverseer, StorerError
from aiosessions.asgi import SessionMiddleware
from aiosessions.litestar import SessionPlugin
from aiosessions.quart import init_app
from tests.integrations.stage import OpenStorer

__all__ = ["litestar_app", "quart_app", "starlette_app"]

store = StorageOverseer(dict[str, int], OpenStorer(StorerError("no backend at host:1")))


starlette_app = Starlette(middleware=[Middleware(SessionMiddleware, stores=[store])])
litestar_app = Litestar(plugins=[SessionPlugin(app=store)])
quart_app = quart.Quart(__name__)
init_app(quart_app, store)
