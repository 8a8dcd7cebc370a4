"""Writes of one kind: one alone, or those of one tick in one statement."""

from collections.abc import Sequence

from aiosessions._errors import StorerError
from aiosessions.storers._postgres_server import Server, blames_a_row
from aiosessions.storers.batches import Batches

__all__ = ["Writes"]

_Call = tuple[object, ...]


class Writes:
    """Each call gets the answer that it would have got alone, and waits for nobody else's row.

    Of several in one statement, those that it has not done are made again, one by one, each in its own task: of two
    calls with one key the second; those whose rows are locked, absent or at another version; all, if PostgreSQL refuses
    one (it has then done none).

    Args:
        server: what to ask.
        one: the statement for one call, with the call's arguments; it answers one row, or none for False.
        several: the statement for several, with a list of each argument; it answers the first argument, and the answer,
            of those it has done.
        most: how many go together.
    """

    def __init__(self, server: Server, one: str, several: str, *, most: int) -> None:
        self._server = server
        self._one = one
        self._several = several
        self._batches: Batches[_Call, bool | None] = Batches(self._send, most=most)

    async def ask(self, *call: object) -> bool:
        """The answer to one call, the first argument being its key."""
        answer = await self._batches.ask(call)
        return await self._alone(call) if answer is None else answer

    async def _alone(self, call: _Call) -> bool:
        rows = await self._server.fetch(self._one, *call)
        return bool(rows and rows[0][0])

    async def _send(self, calls: Sequence[_Call]) -> Sequence[bool | None]:
        if len(calls) == 1:
            return [await self._alone(calls[0])]

        firsts: dict[object, _Call] = {}
        for call in calls:
            firsts.setdefault(call[0], call)
        # In one order, so that two batches that insert cannot each wait for the other.
        columns = zip(*sorted(firsts.values(), key=_key), strict=True)
        try:
            rows = await self._server.fetch(self._several, *columns)
        except StorerError as error:
            if not blames_a_row(error):
                raise
            return [None] * len(calls)
        done = {key_hash: bool(answer) for key_hash, answer in rows}
        return [done.get(call[0]) if firsts[call[0]] is call else None for call in calls]


def _key(call: _Call) -> bytes:
    key = call[0]
    assert isinstance(key, bytes)
    return key
