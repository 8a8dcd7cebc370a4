"""What a store reports of sessions, for tests that compare all of it. Calls of the storer are test_telemetry's."""

from collections.abc import Callable

from aiosessions import Event

__all__ = ["facts"]


def facts(events: list[Event]) -> Callable[[Event], None]:
    """An `on_event` that keeps in *events* what happened to sessions."""

    def note(event: Event) -> None:
        if event.kind != "storer_call":
            events.append(event)

    return note
