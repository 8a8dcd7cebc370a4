"""OpenTelemetry: what it counts, measures and traces, as the real SDK exports it."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from aiosessions import (
    ConflictError,
    Event,
    Lifetime,
    StorageOverseer,
    StorerError,
    storer_from_url,
)
from aiosessions.telemetry import OpenTelemetry
from aiosessions.testing.suites_store import Visitor
from tests import servers_sql
from tests.conftest import ASYNCIO
from tests.servers import NoServerError, ValkeyServer, valkey
from tests.storers_with_faults import Scene
from tests.test_imports import fresh
from tests.test_storage_overseer import GRACE, HOUR, Cart, House

pytestmark = pytest.mark.anyio

postgres_server = servers_sql.postgres_server

DURATION, SIZE = "aiosessions.storer.operation.duration", "aiosessions.session.size"
CONFLICTS, MERGES, REJECTIONS = "aiosessions.conflicts", "aiosessions.merges", "aiosessions.rejections"
Attributes = dict[str, str]


class Observed:
    """What one OpenTelemetry exports.

    Attributes:
        told: every event that it heard of.
    """

    def __init__(self, **options: Any) -> None:  # Any: of the TracerProvider
        self.told: list[Event] = []
        self._reader = InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        traces = TracerProvider(**options)
        traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = traces.get_tracer("the application")
        self._telemetry = OpenTelemetry(MeterProvider([self._reader]), traces)

    def __call__(self, event: Event) -> None:
        self.told.append(event)
        self._telemetry(event)

    def metrics(self) -> dict[str, Any]:  # Any: a Metric of the SDK's
        """By their names."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        assert [scope.scope.name for scope in scopes] == ["aiosessions"]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str) -> list[tuple[Attributes, Any]]:  # Any: the point of a sum or of a histogram
        """Attributes, without the prefix that all have, and number or sum."""
        metric = self.metrics().get(name)
        points: list[Any] = [] if metric is None else list(metric.data.data_points)
        return [
            (
                {key.removeprefix("aiosessions."): value for key, value in point.attributes.items()},
                point.sum if hasattr(point, "sum") else point.value,
            )
            for point in points
        ]

    def spans(self) -> list[ReadableSpan]:
        """Ours, since the last time."""
        spans = [span for span in self._spans.get_finished_spans() if span.name != "request"]
        self._spans.clear()
        return spans

    def text(self) -> str:
        """All of it."""
        data = self._reader.get_metrics_data()
        assert data is not None
        return data.to_json() + "".join(span.to_json() for span in self._spans.get_finished_spans())


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def house(observed: Observed) -> House:
    return House(on_event=observed)


# metrics


async def test_the_instruments_have_names_units_and_boundaries(observed: Observed, house: House) -> None:
    await house.visitor()
    metrics = observed.metrics()
    assert {name: metric.unit for name, metric in metrics.items()} == {DURATION: "s", SIZE: "By"}
    for name, least, most in ((DURATION, 0.0001, 10.0), (SIZE, 128.0, 262_144.0)):
        [point] = metrics[name].data.data_points
        assert (point.explicit_bounds[0], point.explicit_bounds[-1]) == (least, most)


async def test_each_call_is_measured_by_its_operation(observed: Observed, house: House) -> None:
    visitor = await house.visitor(user="ann")
    async with house.request(visitor) as (session, _):
        session.value.note = "more"
    await house.store.user_sessions("ann")
    seconds: dict[str, float] = {}
    for event in observed.told:
        if event.seconds is not None:
            seconds[event.operation] = seconds.get(event.operation, 0.0) + event.seconds
    assert set(seconds) == {"create", "read", "replace", "list_by_owner"}
    points = observed.points(DURATION)
    assert {attributes["operation"]: total for attributes, total in points} == pytest.approx(seconds)
    for attributes, _ in points:
        assert attributes == {
            "session.name": "app",
            "operation": attributes["operation"],
            "storer": "WatchedStorer",
        }


async def test_the_size_is_that_of_each_session_read_or_written(observed: Observed, house: House) -> None:
    """Not of what lists read, of several at once, nor of a record that is not there."""
    visitor = await house.visitor(user="ann")
    [(_, record)] = await house.storer.list_by_owner("ann")
    size = len(record.value) + len(record.meta)
    async with house.request(visitor) as (session, _):
        session.touch()
    await house.store.user_sessions("ann")
    assert [info async for info in house.store.sessions()]
    await house.store.delete_user_sessions("ann")
    async with house.request(visitor):
        pass
    common = {"session.name": "app", "storer": "WatchedStorer"}
    assert observed.points(SIZE) == [({**common, "operation": each}, size) for each in ("create", "read")]


async def test_a_ledger_of_revocations_has_no_session_s_size(observed: Observed) -> None:
    scene = Scene("guarded", on_event=observed)
    await scene.end(await scene.visitor(user="ann"))
    assert {attributes["operation"] for attributes, _ in observed.points(DURATION)} >= {"create", "read_together"}
    assert observed.points(SIZE) == []


@pytest.mark.parametrize(
    ("field", "on_conflict", "name", "event"),
    [
        ("note", "merge", MERGES, "merged"),
        ("note", "raise", CONFLICTS, "conflict"),
        ("seal", "merge", CONFLICTS, "conflict"),
    ],
)
async def test_conflicts_and_merges_are_counted(
    observed: Observed, field: str, on_conflict: str, name: str, event: str
) -> None:
    house = House(on_event=observed, on_conflict=on_conflict)
    visitor = await house.visitor()
    async with visitor.visit() as one, visitor.copy().visit() as two:
        first, second = await house.store.get(one.request), await house.store.get(two.request)
        setattr(first.value, field, "ours")
        setattr(second.value, field, "theirs")
        await house.store.save(first, one.response)
        try:
            await house.store.save(second, two.response)
        except ConflictError:
            assert event == "conflict"
    assert observed.points(name) == [({"session.name": "app", "event": event}, 1)]
    other = CONFLICTS if name == MERGES else MERGES
    assert observed.points(other) == []


async def unknown(house: House, visitor: Visitor) -> None:
    await house.store.delete_all()


async def wrong_secret(house: House, visitor: Visitor) -> None:
    [(name, token)] = visitor.cookies.items()
    visitor.cookies[name] = token[:24] + "A" * 40


async def malformed(house: House, visitor: Visitor) -> None:
    [name] = visitor.cookies
    visitor.cookies[name] = "x"


async def superseded(house: House, visitor: Visitor) -> None:
    async with house.request(visitor.copy()) as (session, _):
        session.regenerate()


async def expired(house: House, visitor: Visitor) -> None:
    """By the store's own deadline: the backend still has it."""
    house.store = StorageOverseer(Cart, house.storer, lifetime=Lifetime(idle=timedelta(minutes=1)), **house.options)
    await house.clock.advance(300)


async def reused(house: House, visitor: Visitor) -> None:
    house.store = StorageOverseer(Cart, house.storer, lifetime=Lifetime(rotate=HOUR), **house.options)
    owner = visitor.copy()
    await house.clock.advance(3600)
    for _ in range(2):
        async with house.request(owner):
            pass
    await house.clock.advance(2 * GRACE)


@pytest.mark.parametrize(
    ("spoil", "event", "reason"),
    [
        (unknown, "rejected", "unknown"),
        (wrong_secret, "rejected", "wrong secret"),
        (malformed, "rejected", "malformed"),
        (superseded, "token_superseded", ""),
        (expired, "expired", ""),
        (reused, "token_reused", ""),
    ],
)
async def test_a_token_that_opens_no_session_is_counted(
    observed: Observed,
    house: House,
    spoil: Callable[[House, Visitor], Any],
    event: str,
    reason: str,
) -> None:
    visitor = await house.visitor()
    await spoil(house, visitor)
    assert observed.points(REJECTIONS) == []
    assert (await house.session_of(visitor)).is_new
    expected = {"session.name": "app", "event": event, **({"reason": reason} if reason else {})}
    assert observed.points(REJECTIONS) == [(expected, 1)]


async def test_names_that_visitors_choose_make_no_series_without_end(observed: Observed, house: House) -> None:
    """Those after the first 64 are one."""
    async with Visitor().visit() as visit:
        for number in range(100):
            session = await house.store.get(visit.request, f"name{number}")
            session.value.note = "a"
            await house.store.save(session, visit.response)
    names = {attributes["session.name"] for attributes, _ in observed.points(DURATION)}
    assert names == {*(f"name{number}" for number in range(64)), "_OTHER"}


# traces


@asynccontextmanager
async def request_span(observed: Observed) -> AsyncGenerator[Any]:  # Any: a Span
    with observed.tracer.start_as_current_span("request") as span:
        yield span


async def test_a_call_is_a_span_of_its_request_from_its_beginning_to_its_end(observed: Observed, house: House) -> None:
    visitor = await house.visitor()
    assert observed.spans() == [], "a trace for each call that belongs to none"
    observed.told.clear()
    async with request_span(observed) as parent, house.request(visitor) as (session, _):
        session.value.note = "more"
    calls = [event for event in observed.told if event.seconds is not None]
    spans = observed.spans()
    assert [span.name for span in spans] == ["aiosessions read", "aiosessions replace"]
    for span, event in zip(spans, calls, strict=True):
        assert span.parent == parent.get_span_context()
        assert span.context is not None
        assert span.context.trace_id == parent.get_span_context().trace_id
        assert span.kind is SpanKind.CLIENT
        assert span.status.status_code is StatusCode.UNSET
        assert span.start_time is not None
        assert span.end_time is not None
        assert event.seconds is not None
        assert span.end_time - span.start_time == round(event.seconds * 1e9)
        assert parent.start_time < span.start_time
        assert span.end_time < parent.end_time
        assert dict(span.attributes or {}) == {
            "aiosessions.session.name": "app",
            "aiosessions.operation": event.operation,
            "aiosessions.storer": "WatchedStorer",
        }


async def test_what_is_not_sampled_is_no_span_and_is_measured_all_the_same() -> None:
    observed = Observed(sampler=ParentBased(ALWAYS_OFF))
    house = House(on_event=observed)
    async with request_span(observed):
        await house.visitor()
    assert observed.spans() == []
    assert [attributes["operation"] for attributes, _ in observed.points(DURATION)] == ["create"]


async def test_an_error_is_the_span_s_and_the_measurement_s(observed: Observed, house: House) -> None:
    visitor = await house.visitor()
    house.storer.failing = {"read"}
    async with request_span(observed):
        with pytest.raises(StorerError):
            await house.session_of(visitor)
    [span] = observed.spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ConnectionResetError")
    assert (span.attributes or {})["aiosessions.reason"] == "ConnectionResetError"
    reasons = [attributes["reason"] for attributes, _ in observed.points(DURATION) if "reason" in attributes]
    assert reasons == ["ConnectionResetError"]


# what is in none of it


async def test_nothing_that_is_exported_says_who_it_was_or_opens_anything() -> None:
    """V8: no user id, handle, token, label or value, whatever happens and wherever the session is kept."""
    observed = Observed()
    secrets: set[str] = set()

    async def visits(store: Any, spoil: Callable[[], Any]) -> None:  # Any: an overseer of either kind
        visitor = Visitor()
        for _ in range(2):
            async with visitor.visit() as visit:
                session = await store.get(visit.request)
                session.value.note += "the-value"
                session.set_user("the-user")
                session.label = "the-label"
                await store.save(session, visit.response)
            secrets.update((session.handle, *visitor.cookies.values()))
        forged = visitor.copy()
        forged.cookies = {name: text[:30] + "A" * 34 for name, text in visitor.cookies.items()}
        secrets.update(forged.cookies.values())
        async with forged.visit() as visit:
            await store.get(visit.request)
        await store.delete_user_sessions("the-user")
        async with visitor.visit() as visit:
            await store.get(visit.request)
        spoil()
        async with visitor.visit() as visit:
            with pytest.raises(StorerError):
                await store.get(visit.request)

    house = House(on_event=observed)
    scene = Scene("guarded", on_event=observed)
    async with request_span(observed):
        await visits(house.store, lambda: house.storer.failing.add("read"))
        await visits(scene.store, lambda: scene.storer.failing.add("read"))
    assert observed.points(REJECTIONS)
    text = observed.text()
    assert "aiosessions.reason" in text
    for secret in ("the-user", "the-value", "the-label", *secrets):
        assert secret, secrets
        for part in (secret, secret[:24], secret[24:]):
            assert not part or part not in text
    assert "handle" not in text


# the real servers


@pytest.mark.parametrize("anyio_backend", [ASYNCIO])
@pytest.mark.parametrize("kind", ["Redis", "Postgres"])
async def test_the_calls_of_a_server_are_measured_and_traced(
    kind: str, observed: Observed, request: pytest.FixtureRequest
) -> None:
    if kind == "Redis":
        server: ValkeyServer = request.getfixturevalue("valkey_server")
        url = f"valkey://{server.host}:{server.port}?prefix=telemetry:"
    else:
        url = f"{request.getfixturevalue('postgres_server').url}&table=telemetry"
    visitor = Visitor()
    async with StorageOverseer(Cart, storer_from_url(url), on_event=observed) as store, request_span(observed):
        for _ in range(2):
            async with visitor.visit() as visit:
                session = await store.get(visit.request)
                session.value.note += "more"
                session.set_user("ann")
                await store.save(session, visit.response)
        assert await store.delete_user_sessions("ann") == 1
    operations = ["create", "read", "replace", "delete_by_owner"]
    assert [span.name for span in observed.spans()] == [f"aiosessions {each}" for each in operations]
    assert [attributes["operation"] for attributes, _ in observed.points(DURATION)] == operations
    assert {attributes["storer"] for attributes, _ in observed.points(DURATION)} == {f"{kind}Storer"}


@pytest.fixture
def mortal(no_server: Callable[[str], NoReturn]) -> Iterator[ValkeyServer]:
    """A Valkey of one's own."""
    try:
        with valkey() as server:
            yield server
    except NoServerError as error:
        no_server(str(error))


@pytest.mark.parametrize("anyio_backend", [ASYNCIO])
async def test_a_server_that_is_gone_is_an_error_of_its_class(observed: Observed, mortal: ValkeyServer) -> None:
    visitor = Visitor()
    url = f"valkey://{mortal.host}:{mortal.port}?timeout=2"
    async with StorageOverseer(Cart, storer_from_url(url), on_event=observed) as store:
        async with visitor.visit() as visit:
            session = await store.get(visit.request)
            session.set_user("ann")
            await store.save(session, visit.response)
        mortal.kill()
        async with request_span(observed), visitor.visit() as visit:
            with pytest.raises(StorerError) as caught:
                await store.get(visit.request)
    [span] = observed.spans()
    cause = type(caught.value.__cause__).__name__
    assert cause in ("ConnectionError", "TimeoutError")
    assert (span.name, span.status.status_code, span.status.description) == (
        "aiosessions read",
        StatusCode.ERROR,
        cause,
    )


# without providers


def test_it_is_the_global_providers_that_are_used_also_if_they_come_later() -> None:
    program = """
from opentelemetry import metrics, trace
from aiosessions import Event
from aiosessions.telemetry import OpenTelemetry
early = OpenTelemetry()
event = Event("storer_call", "app", operation="read", seconds=0.5, storer="MemoryStorer")
early(event)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
reader, spans, tracers = InMemoryMetricReader(), InMemorySpanExporter(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
metrics.set_meter_provider(MeterProvider([reader]))
trace.set_tracer_provider(tracers)
with trace.get_tracer("the application").start_as_current_span("request"):
    early(event)
[resource] = reader.get_metrics_data().resource_metrics
print([(metric.name, metric.data.data_points[0].sum) for metric in resource.scope_metrics[0].metrics])
print([span.name for span in spans.get_finished_spans()])
"""
    answer = fresh(program)
    assert answer.stderr == ""
    assert answer.stdout == f"[('{DURATION}', 0.5)]\n['aiosessions read', 'request']\n"
