"""A shop whose sessions Prometheus watches. `AIOSESSIONS_DEBUG=1 uvicorn examples.telemetry.shop:app`"""

import os
from dataclasses import dataclass, field
from typing import Annotated

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aiosessions import Merge, StorageOverseer, storer_from_url
from aiosessions.asgi import SessionMiddleware
from aiosessions.telemetry import OpenTelemetry


@dataclass
class Shop:
    cart: list[str] = field(default_factory=list[str])
    note: str = ""
    address: Annotated[str, Merge.RAISE] = ""  # two tabs that disagree: a 409 for the second


telemetry = OpenTelemetry(MeterProvider([PrometheusMetricReader()]))
store = StorageOverseer(Shop, storer_from_url(os.environ.get("STORE", "memory:")), name="shop", on_event=telemetry)


async def cart(request: Request) -> Response:
    return JSONResponse((await store.get(request)).value.cart)


async def add(request: Request) -> Response:
    session = await store.get(request)
    session.value.cart.append(request.path_params["product"])
    return JSONResponse(session.value.cart)


async def note(request: Request) -> Response:
    session = await store.get(request)
    session.value.note = (await request.body()).decode()
    return Response()


async def address(request: Request) -> Response:
    session = await store.get(request)
    session.value.address = (await request.body()).decode()
    return Response()


async def metrics(_: Request) -> Response:
    """For Prometheus alone: keep it from the public, by a port of its own or in the proxy."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


app = Starlette(
    routes=[
        Route("/", cart),
        Route("/cart/{product}", add, methods=["POST"]),
        Route("/note", note, methods=["PUT"]),
        Route("/address", address, methods=["PUT"]),
        Route("/metrics", metrics),
    ],
    middleware=[Middleware(SessionMiddleware, stores=[store])],
)
