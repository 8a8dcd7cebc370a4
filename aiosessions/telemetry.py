"""Metrics and traces: what a store reports, told to OpenTelemetry.

    store = StorageOverseer(Shop, storer, on_event=OpenTelemetry())

No attribute holds a user id, a handle, a token or a value.
"""

from importlib.metadata import version
from time import time_ns

from aiosessions._events import Event, EventKind

try:
    from opentelemetry import metrics, trace
except ImportError as _error:
    raise ImportError('OpenTelemetry needs opentelemetry-api: pip install "aiosessions[otel]"') from _error

__all__ = ["OpenTelemetry"]

_SCOPE = "aiosessions"
_NAME, _EVENT, _OPERATION, _REASON, _STORER = (
    f"aiosessions.{word}" for word in ("session.name", "event", "operation", "reason", "storer")
)
_MOST_NAMES = 64
"""How many session names are told apart: each is a time series, and where visitors choose them there is no end."""
_OTHER = "_OTHER"
"""Every name after those: the conventions' own word, and no session's name."""
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From a dict in memory to a time-out."""
_BYTES = tuple(float(2**power) for power in range(7, 19))
"""From an empty session to what `max_size` allows by default."""


class OpenTelemetry:
    """Counts and measures events, and makes spans of a storer's calls: give it to one store or several as `on_event=`.

    Histograms: `aiosessions.storer.operation.duration` in s, of every call, and `aiosessions.session.size` in By, of
    every session read or written. Counters: `aiosessions.conflicts`, `aiosessions.merges`, `aiosessions.rejections`.

    Attributes: `aiosessions.session.name` (the first 64 count, all others are `_OTHER`); of calls
    `aiosessions.operation`, `aiosessions.storer`, and `aiosessions.reason`, the class of the error that it raised, if
    it did; of counters `aiosessions.event` and, where the event has one, `aiosessions.reason`.

    Rejections are tokens that came and opened no session: `rejected` (the reason says why), `expired`,
    `token_superseded`, `token_reused`. All four, since which of them it is depends on the backend too: a session that
    it has forgotten by now is `unknown`, and `expired` where it has not.

    A span, `aiosessions read` and so on, is a child of the current one; where there is none, none is made.

    Args:
        meter_provider: None: the global one.
        tracer_provider: None: the global one.
    """

    def __init__(
        self,
        meter_provider: metrics.MeterProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
    ) -> None:
        release = version(_SCOPE)
        self._tracer = trace.get_tracer(_SCOPE, release, tracer_provider)
        meter = metrics.get_meter(_SCOPE, release, meter_provider)
        self._duration = meter.create_histogram(
            "aiosessions.storer.operation.duration",
            "s",
            "How long calls of a storer take",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._size = meter.create_histogram(
            "aiosessions.session.size",
            "By",
            "Value and meta of the sessions that a storer reads and writes",
            explicit_bucket_boundaries_advisory=_BYTES,
        )
        conflicts = meter.create_counter("aiosessions.conflicts", "{conflict}", "Writes that ended in a ConflictError")
        merges = meter.create_counter("aiosessions.merges", "{merge}", "Writes of one field by two requests, decided")
        rejections = meter.create_counter("aiosessions.rejections", "{token}", "Tokens that opened no session")
        self._counters: dict[EventKind, metrics.Counter] = {
            "conflict": conflicts,
            "merged": merges,
            "rejected": rejections,
            "expired": rejections,
            "token_superseded": rejections,
            "token_reused": rejections,
        }
        self._names: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Count it, measure it, or leave it out."""
        if event.seconds is not None:
            self._called(event, event.seconds)
            return

        counter = self._counters.get(event.kind)
        if counter is not None:
            attributes = {_NAME: self._name(event.name), _EVENT: event.kind}
            counter.add(1, attributes | _reason(event))

    def _called(self, event: Event, seconds: float) -> None:
        attributes = {_NAME: self._name(event.name), _OPERATION: event.operation, _STORER: event.storer}
        if event.size is not None and event.handle:  # else of several sessions, or of a ledger of revocations
            self._size.record(event.size, attributes)
        attributes = attributes | _reason(event)
        self._duration.record(seconds, attributes)
        if not trace.get_current_span().get_span_context().is_valid:
            return

        end = time_ns()
        span = self._tracer.start_span(
            f"aiosessions {event.operation}",
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=end - round(seconds * 1e9),
        )
        if event.reason:
            span.set_status(trace.StatusCode.ERROR, event.reason)
        span.end(end)

    def _name(self, name: str) -> str:
        if name not in self._names:
            if len(self._names) >= _MOST_NAMES:
                return _OTHER
            self._names.add(name)
        return name


def _reason(event: Event) -> dict[str, str]:
    return {_REASON: event.reason} if event.reason else {}
