"""What the `*_live.py` examples share: the value, and what a stream and a socket do with it. No framework in here."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio

from aiosessions import Session, StorageOverseer

__all__ = ["Live", "count", "newest"]


@dataclass
class Live:
    """What the session keeps."""

    messages: int = 0


def count(value: Live) -> None:
    """One message more; run again on the newest value if another tab counted meanwhile."""
    value.messages += 1


async def newest(store: StorageOverseer[Live], session: Session[Live], events: int) -> AsyncIterator[str]:
    """Server-sent events with the newest number. It only reads: however late it ends, it overwrites nothing."""
    for _ in range(events):
        value = await store.update(session, lambda _: None)  # changes nothing, so nothing is written
        yield f"data: {value.messages}\n\n"
        await anyio.sleep(0.01)
