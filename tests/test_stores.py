"""Every promise of the contract that a store keeps whatever it is made of, over each kind of store."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from aiosessions import (
    AESGCMSealer,
    CookieOptions,
    CookieOverseer,
    CookieTransport,
    EncryptedStorer,
    HeaderTransport,
    HMACSealer,
    JWTSealer,
    MemoryStorer,
    Sealer,
    StorageOverseer,
    Transport,
    new_key,
)
from aiosessions.testing.suites_store import MakeStore, StoreSuite
from aiosessions.testing.suites_storer import MovableClock

pytestmark = pytest.mark.anyio

_TRANSPORTS = [CookieTransport(), CookieTransport(CookieOptions(max_bytes=6144)), HeaderTransport()]
_SEALERS: dict[str, Callable[[str], Sealer]] = {"AES-GCM": AESGCMSealer, "HMAC": HMACSealer, "JWT": JWTSealer}


@pytest.fixture(params=_TRANSPORTS, ids=["cookie", "chunks", "header"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


class TestStorageOverseer(StoreSuite):
    @pytest.fixture(params=[None, *_SEALERS])
    def make_store(self, request: pytest.FixtureRequest, transport: Transport, clock: MovableClock) -> MakeStore:
        storer = MemoryStorer(clock=clock.now)
        sealer: Sealer | None = None if request.param is None else _SEALERS[request.param](new_key())

        def make(value_type: type[Any], **options: Any) -> StorageOverseer[Any]:
            return StorageOverseer(value_type, storer, transport=transport, sealer=sealer, clock=clock.now, **options)

        return make


class TestOverAnEncryptedStorer(StoreSuite):
    @pytest.fixture(params=[False, True], ids=["owners", "hashed"])
    def make_store(self, request: pytest.FixtureRequest, clock: MovableClock) -> MakeStore:
        storer = EncryptedStorer(MemoryStorer(clock=clock.now), new_key(), hash_owners=request.param)

        def make(value_type: type[Any], **options: Any) -> StorageOverseer[Any]:
            return StorageOverseer(value_type, storer, clock=clock.now, **options)

        return make


class TestCookieOverseer(StoreSuite):
    is_client_held: ClassVar[bool] = True

    @pytest.fixture(params=_SEALERS)
    def make_store(self, request: pytest.FixtureRequest, transport: Transport, clock: MovableClock) -> MakeStore:
        sealer: Sealer = _SEALERS[request.param](new_key())

        def make(value_type: type[Any], **options: Any) -> CookieOverseer[Any]:
            return CookieOverseer(value_type, sealer, transport=transport, clock=clock.now, **options)

        return make


class TestRevocableCookieOverseer(StoreSuite):
    is_client_held: ClassVar[bool] = True
    revokes: ClassVar[bool] = True

    @pytest.fixture(params=[False, True], ids=["", "replay protection"])
    def make_store(self, request: pytest.FixtureRequest, transport: Transport, clock: MovableClock) -> MakeStore:
        sealer, storer = AESGCMSealer(new_key()), MemoryStorer(clock=clock.now)

        def make(value_type: type[Any], **options: Any) -> CookieOverseer[Any]:
            return CookieOverseer(
                value_type,
                sealer,
                transport=transport,
                clock=clock.now,
                revocations=storer,
                replay_protection=request.param,
                **options,
            )

        return make
