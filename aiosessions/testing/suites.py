"""The contract, as pytest classes to inherit: for those who write storers, sealers and stores.

`StorerSuite`, and one more per capability; `SealerSuite`; `StoreSuite`. A test class inherits what it claims.
"""

from aiosessions.testing.suites_sealer import SealerSuite
from aiosessions.testing.suites_store import StoreSuite, Visitor
from aiosessions.testing.suites_storer import (
    CleanableSuite,
    ListableSuite,
    MovableClock,
    OpenableSuite,
    StorerSuite,
    UserIndexedSuite,
    WaitingClock,
)

__all__ = [
    "CleanableSuite",
    "ListableSuite",
    "MovableClock",
    "OpenableSuite",
    "SealerSuite",
    "StoreSuite",
    "StorerSuite",
    "UserIndexedSuite",
    "Visitor",
    "WaitingClock",
]
