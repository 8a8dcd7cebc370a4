"""What `instructions.py` counts: `python -m tests.benchmarks.counted REQUESTS`, under valgrind.

Each case in turn, between two calls of getppid(), which callgrind notices.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Mapping

from aiosessions import AESGCMSealer, CookieOverseer, MemoryStorer, StorageOverseer, new_key
from tests.benchmarks.floor import Memory, Sealed, floor
from tests.benchmarks.instructions import ACTIONS_COUNTED, SUBJECTS_COUNTED
from tests.benchmarks.measure import Visit
from tests.benchmarks.pages import Shop, ours, sign_in, visit

_WARM = 50  # requests, until the interpreter has specialised the code they pass


async def _count(requests: int) -> None:
    async with StorageOverseer(Shop, MemoryStorer()) as store:
        apps = (
            floor(Memory()),
            ours("", store).app,
            floor(Sealed()),
            ours("", CookieOverseer(Shop, AESGCMSealer(new_key()))).app,
        )
        cases: Mapping[tuple[str, str], Visit] = {
            (subject, action): visit(app, action, [await sign_in(app)])
            for subject, app in zip(SUBJECTS_COUNTED, apps, strict=True)
            for action in ACTIONS_COUNTED
        }
        for case in cases.values():
            for _ in range(_WARM):
                await case(0)
            gc.collect()
            os.getppid()
            for _ in range(requests):
                await case(0)
            os.getppid()


if __name__ == "__main__":
    asyncio.run(_count(int(sys.argv[1])))
