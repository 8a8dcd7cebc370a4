"""For Litestar: a plugin that gives handlers their sessions, and saves them.

`Litestar([index], plugins=[SessionPlugin(app=store)])`, then `async def index(app: NamedDependency[Session[AppData]])`,
and `MappingSession[V]` for a store of `dict[str, V]`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from litestar import Request, Response
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import responses
from litestar.middleware import DefineMiddleware
from litestar.plugins import InitPlugin
from litestar.types import Scope

from aiosessions._errors import ConfigError, ConflictError, NoSessionError, ReauthenticationError, SessionError
from aiosessions._lifespan import ASGIApp
from aiosessions._request_sessions import CHALLENGE, kinds, sessions_of_request
from aiosessions._session import Session
from aiosessions._store import Store
from aiosessions._stores import Refresh, Refreshed, openable
from aiosessions.asgi import Connection, SessionMiddleware
from aiosessions.origins import Origins

__all__ = ["SessionPlugin"]


class SessionPlugin(InitPlugin):
    """Makes each store's session a dependency, saves sessions before each answer, opens and closes the stores.

    A ConflictError that leaves a handler becomes a 409, and a NoSessionError, NotAuthenticatedError or
    ReauthenticationError about a session of the request a 401, unless the application, a router, a controller or the
    handler has an exception handler for it, or for a base class up to SessionError. The same handlers, and those for
    the other errors, answer when a save fails as the headers leave; Litestar's `after_exception` hooks do not run then.

    Args:
        origins: as for `SessionMiddleware`. No store can have this name, nor the next.
        refresh: likewise.
        stores: by the name of a parameter in handlers of requests and of websockets: `SessionPlugin(app=store)` for
            `app: NamedDependency[Session[AppData]]`; before Litestar 2.23 `app: Session[AppData]`.

    Raises:
        ConfigError: an argument cannot work; the message names it and the fix.
    """

    __slots__ = ("_openable", "_origins", "_refresh", "_stores")

    def __init__(
        self,
        *,
        origins: Sequence[str] | None = None,
        refresh: Sequence[Refreshed] = (),
        **stores: Store[Any],  # Any: stores of any types
    ) -> None:
        for option, value in (("origins", origins), ("refresh", refresh)):
            if hasattr(value, "require"):
                raise ConfigError(f"{option}: a store cannot be called so, it is an option: give it another name")
        if origins is not None:
            Origins(origins)  # now, and not when the application is made
        Refresh(refresh)
        self._origins = origins
        self._refresh = refresh
        self._stores = stores
        self._openable = openable(tuple(stores.values()))

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Called by Litestar."""
        app_config.middleware.insert(
            0,
            DefineMiddleware(SessionMiddleware, origins=self._origins, refresh=self._refresh, on_save_error=_answer),
        )  # the first is the outermost
        for kind in (ConflictError, NoSessionError, ReauthenticationError):
            app_config.exception_handlers.setdefault(kind, _own_answer)  # pyright: ignore[reportUnknownMemberType]  # Litestar leaves parts of these two types open
        app_config.after_exception.append(_close)  # pyright: ignore[reportUnknownMemberType]  # as above
        app_config.lifespan.extend(self._openable)  # pyright: ignore[reportUnknownMemberType]  # as above
        for name, store in self._stores.items():
            app_config.dependencies[name] = Provide(_session_of(store))
        return app_config


def _session_of(store: Store[Any]) -> Callable[[Scope], Awaitable[Session[Any]]]:  # Any: stores of any types
    async def session(scope: Scope) -> Session[Any]:  # Any: likewise
        return await store.get(Connection(scope))

    return session


async def _answer(scope: Scope, error: SessionError) -> ASGIApp | None:
    """What the exception handler that is nearest to the route says; looked up as Litestar does."""
    app: Any = scope["litestar_app"]  # Any: Litestar leaves parts of both types open
    route_handler: Any = scope["route_handler"]
    handlers: dict[Any, Callable[..., Any]] = route_handler.resolve_exception_handlers()
    handle = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), handlers.get(500))
    if handle is None:
        return None

    request = app.request_class(scope)
    encoders = route_handler.resolve_type_encoders()
    answer: ASGIApp = handle(request, error).to_asgi_response(None, request, type_encoders=encoders)
    return answer


def _own_answer(
    request: Request[Any, Any, Any], error: SessionError
) -> Response[Any]:  # Any: the application's own types
    """409 or 401, unless the application, or somebody nearer, has a handler for the error or a base class."""
    route_handler: Any = request.route_handler  # Any: as above
    handlers: dict[Any, Callable[..., Response[Any]]] = route_handler.resolve_exception_handlers()
    handlers = {kind: handle for kind, handle in handlers.items() if handle is not _own_answer}
    sessions = sessions_of_request(request.scope)
    handle = next((handlers[kind] for kind in kinds(error) if kind in handlers), None)
    if handle is not None:
        return handle(request, error)
    if isinstance(error, ConflictError):
        sessions.has_conflict = True
        return Response("Conflict", status_code=409, media_type="text/plain")
    if sessions.refuses(error):
        challenge = {"WWW-Authenticate": CHALLENGE}
        return Response("Unauthorized", status_code=401, media_type="text/plain", headers=challenge)

    # the application's: what Litestar would say, had we no handler
    handle = handlers.get(Exception) or handlers.get(500)
    if handle is not None:
        return handle(request, error)
    default: Any = responses  # Any: as above
    make = default.create_debug_response if request.app.debug else default.create_exception_response
    answer: Response[Any] = make(request, error)
    return answer


async def _close(error: Exception, scope: Scope) -> None:
    """Litestar asks no handler what to do with a websocket, and closes it with a code of its own."""
    sessions = sessions_of_request(scope)
    sessions.is_refused = sessions.refuses(error)
