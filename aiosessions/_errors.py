"""What can go wrong, one class per thing a caller may want to tell apart."""


class SessionError(Exception):
    """The root of every error this library raises."""


class ConfigError(SessionError, ValueError):
    """An argument at construction cannot work; the message names it and the fix."""


class _RefusalError(SessionError):
    """A session is not what the page asks for.

    Args:
        reply: of the request that the session belongs to, which is answered 401; None: it belongs to none.
    """

    __slots__ = ("reply",)  # and so not in what is pickled, or shown as the error's attributes

    def __init__(self, *args: object, reply: object = None) -> None:
        super().__init__(*args)
        self.reply: object = reply


class NoSessionError(_RefusalError, LookupError):
    """`require()` found no stored session, or `update()` one that is gone."""


class NotAuthenticatedError(NoSessionError):
    """`require_user()` found a session that no user is bound to."""


class NoKeyError(SessionError, KeyError):
    """A mapping session has no such key."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError's own would quote the message


class KeyExistsError(SessionError, KeyError):
    """`add()` found the key already present."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError's own would quote the message


class ConflictError(SessionError):
    """Another request wrote the same session, and the two writes cannot both stand."""


class SessionTooLargeError(SessionError):
    """The session does not fit. Nothing was sent or written, and what was stored is still there.

    Args:
        name: the session's name, or the storage key where a storer measured it.
        size: what it would have taken, in bytes.
        limit: what it may take, in bytes.
        fix: what to do about it.
    """

    def __init__(self, name: str, *, size: int, limit: int, fix: str = "keep less") -> None:
        super().__init__(f"session {name!r} takes {size} bytes, and {limit} is the limit: {fix}")
        self.name = name
        self.size = size
        self.limit = limit
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        return _too_large, (self.name, self.size, self.limit, self.fix)


class EncodeError(SessionError):
    """The value cannot be encoded, or would not come back as it is. Names the field, never shows the value."""


class DecodeError(SessionError):
    """Bytes that a codec cannot turn into the session's type, or a record that does not open. Never shows the value."""


class ResponseStartedError(SessionError):
    """The client had to be told of a new token, and the headers have left already, or nobody sends any."""


class ReauthenticationError(_RefusalError):
    """`require_fresh()`: the login is older than the page allows (ASVS 5 7.5.1)."""


class UnsupportedError(SessionError):
    """This storer or sealer cannot do what was asked; the message says which can."""


class StorerError(SessionError):
    """The backend failed; the driver's error is `__cause__`. After a write the outcome is unknown."""


class UnsavedSessionWarning(ResourceWarning):
    """A session was changed and thrown away unsaved: is the middleware there? (Python's development mode only.)"""


def _too_large(name: str, size: int, limit: int, fix: str = "") -> SessionTooLargeError:
    return SessionTooLargeError(name, size=size, limit=limit, fix=fix)


class _Stripped:
    """Around everything that calls storers, sealers and codecs: what leaves here shows no token and no value.

    Error trackers upload the local variables of every frame of a traceback, causes and contexts included: those of a
    driver hold what was sent, those of a sealer the token. Their messages stay.
    """

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            strip(error)


STRIPPED = _Stripped()


def strip(error: BaseException) -> None:
    """The same, where an exception is caught; one that is none of ours stays as it is."""
    if not isinstance(error, SessionError):
        return

    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            waiting += [each.__cause__, each.__context__]
