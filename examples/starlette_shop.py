"""The shop in Starlette: the demo's own. `AIOSESSIONS_DEBUG=1 uvicorn examples.starlette_shop:app`"""

import os

from aiosessions import storer_from_url
from aiosessions.demo.desk import Desk
from aiosessions.demo.shop import make_app

app = make_app(Desk(storer_from_url(os.environ.get("STORE", "memory:"))))
