"""`aiosessions audit`: what standards ask, and which option of a store weakens the answer."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from aiosessions import (
    AESGCMSealer,
    CookieOptions,
    CookieOverseer,
    CookieTransport,
    HeaderTransport,
    HMACSealer,
    JWTSealer,
    Lifetime,
    MemoryStorer,
    Sealer,
    StorageOverseer,
    new_key,
    storer_from_url,
)
from aiosessions._views import RequestView, ResponseView
from aiosessions.cli import main
from aiosessions.migration import Alias, StarletteCookie
from aiosessions.sealers.sealer import Claims
from aiosessions.transports.transport import Carried

KEYS = new_key()
PUBLIC = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Cart:
    theme: str = ""


class Pickles:
    """What nobody should do."""

    is_json = False

    def encode(self, value: Cart) -> bytes:
        return pickle.dumps(value)

    def decode(self, data: bytes) -> Cart:
        loaded: Cart = pickle.loads(data)
        return loaded

    def to_tree(self, value: Cart) -> object:
        return value.theme

    def from_tree(self, tree: object) -> Cart:
        return Cart(str(tree))


class Careful(Pickles):
    """A codec of the application's own that is none the worse."""

    def encode(self, value: Cart) -> bytes:
        return value.theme.encode()

    def decode(self, data: bytes) -> Cart:
        return Cart(data.decode())


class Lax:
    """A sealer that forgets one thing.

    Args:
        forgets: which.
    """

    needs_json = False

    def __init__(self, forgets: str) -> None:
        self._inner = AESGCMSealer(KEYS)
        self._forgets = forgets
        self._sealed: dict[str, str] = {}

    def seal(self, claims: Claims, *, name: str) -> str:
        if self._forgets == "expired":
            claims = replace(claims, expires_at=None)
        if self._forgets != "equal" or name not in self._sealed:
            self._sealed[name] = self._inner.seal(claims, name="" if self._forgets == "another" else name)
        return self._sealed[name]

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        if self._forgets == "changed":
            token = self._sealed.get(name, token)
        return self._inner.open(token, name="" if self._forgets == "another" else name, now=now)


class Bare:
    """A transport of the application's own, which sets a cookie and nothing with it."""

    def read(self, request: RequestView, name: str) -> Carried:
        return Carried(name)

    def write(self, response: ResponseView, name: str, token: str, carried: Carried, max_age: int | None) -> None:
        response.add("Set-Cookie", f"{name}={token}" + "x" * 4096)

    def clear(self, response: ResponseView, name: str, carried: Carried) -> None: ...

    def vary(self, response: ResponseView, name: str) -> None: ...


def stored(**options: Any) -> StorageOverseer[Cart]:
    return StorageOverseer(Cart, options.pop("storer", None) or MemoryStorer(), **options)


def held(sealer: Sealer | None = None, **options: Any) -> CookieOverseer[Cart]:
    return CookieOverseer(Cart, sealer or AESGCMSealer(KEYS), **options)


def cookies(**options: Any) -> CookieTransport:
    return CookieTransport(CookieOptions(**options))


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An application's module."""
    module = ModuleType("shop_of_the_tests")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


class Auditor:
    def __init__(self, shop: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
        self._shop: Any = shop  # Any: any attribute
        self._capsys = capsys

    def __call__(self, stores: object) -> list[dict[str, str]]:
        """The rows of one store."""
        self._shop.store = stores
        assert main(["audit", "shop_of_the_tests:store", "--json"]) == 0
        out, err = self._capsys.readouterr()
        assert err == ""
        document = json.loads(out)
        (audited,) = document["stores"]
        rows: list[dict[str, str]] = audited["rows"]
        assert document["weakened"] == sum(row["verdict"] == "weakened" for row in rows)
        return rows


@pytest.fixture
def audit(shop: ModuleType, capsys: pytest.CaptureFixture[str]) -> Auditor:
    return Auditor(shop, capsys)


def verdicts(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["source"]: row["verdict"] for row in rows}


STORED = {
    "enforced": [
        "ASVS 5 7.2.1", "ASVS 5 7.2.2, 7.2.3; 11.5.1", "ASVS 5 7.3.1, 7.3.2; NIST 800-63B-4 §5.2", "ASVS 5 7.4.1",
        "ASVS 5 3.3.1, 3.3.3; RFC 6265bis §4.1.3", "ASVS 5 3.3.2", "ASVS 5 3.3.4", "ASVS 5 3.3.5; 6265bis §5.6",
        "6265bis §5.5", "6265bis §4.1.1", "ASVS 5 14.3.2; OWASP sheet: web content caching", "ASVS 5 14.2.1",
        "ASVS 5 1.5.2", "ASVS 5 1.3.9", "ASVS 5 6.5.2", "ASVS 5 16.2.5", "OWASP sheet: strict session management",
        "OWASP sheet: session life-cycle logging",
    ],
    "assisted": [
        "ASVS 5 7.2.4", "ASVS 5 7.1.1, 7.1.2", "NIST 800-63B-4 AAL2/AAL3", "ASVS 5 7.4.2, 7.4.5", "ASVS 5 7.4.3",
        "ASVS 5 7.5.2", "ASVS 5 7.5.1, 7.5.3", "ASVS 5 14.3.1", "ASVS 5 3.5.1-3.5.3; NIST §5.1", "ASVS 5 4.4.2-4.4.4",
        "OWASP sheet: renewal timeout", "OWASP sheet: brute force detection",
    ],
    "not applicable": [
        "CHIPS", "ASVS 5 9.1.1-9.2.4; RFC 8725 §3", "ASVS 5 11.2.2", "ASVS 5 11.3.3, 11.3.4",
    ],
}  # fmt: skip
"""A StorageOverseer of defaults, row by row: nothing is weakened."""
DEFAULTS = {source: verdict for verdict, sources in STORED.items() for source in sources}


def test_a_storage_overseer_of_defaults_has_no_weakened_row(audit: Auditor) -> None:
    rows = audit(stored())
    assert verdicts(rows) == DEFAULTS
    assert len(rows) == len(DEFAULTS), "each once"
    assert all(row["requirement"] and row["how"] for row in rows)


CUSTOM_ROWS = ("ASVS 5 3.3.1", "ASVS 5 3.3.2", "ASVS 5 3.3.4", "ASVS 5 3.3.5", "ASVS 5 14.3.2")
COPIES = ("ASVS 5 7.2.4", "ASVS 5 7.4.1", "ASVS 5 7.4.2", "ASVS 5 7.4.3", "OWASP sheet: renewal")


@pytest.mark.parametrize(
    ("options", "weakened"),
    [
        ({"transport": CookieTransport.debug()}, {"ASVS 5 3.3.1": "secure=False; prefix=False"}),
        ({"transport": cookies(prefix=False)}, {"ASVS 5 3.3.1": "prefix=False"}),
        ({"transport": cookies(domain="shop.example")}, {"ASVS 5 3.3.1": "domain='shop.example'"}),
        ({"transport": cookies(path="/shop")}, {"ASVS 5 3.3.1": "path='/shop'"}),
        ({"transport": cookies(http_only=False)}, {"ASVS 5 3.3.4": "http_only=False"}),
        ({"transport": cookies(same_site="none")}, {"ASVS 5 3.3.2": "same_site='none'"}),
        ({"transport": Bare()}, dict.fromkeys(CUSTOM_ROWS, "transport=Bare")),
        ({"lifetime": Lifetime(None)}, {"ASVS 5 7.3.1": "lifetime: idle=None"}),
        ({"lifetime": Lifetime(HOUR, None)}, {"ASVS 5 7.3.1": "lifetime: absolute=None"}),
        ({"lifetime": Lifetime(rotate=HOUR, grace=HOUR)}, {"OWASP sheet: renewal": "lifetime: grace=1:00:00"}),
        ({"codec": Pickles()}, {"ASVS 5 1.5.2": "codec="}),
        (
            {"storer": storer_from_url("memcached://localhost")},
            dict.fromkeys(("ASVS 5 7.4.2", "ASVS 5 7.4.3", "ASVS 5 7.5.2"), "storer=MemcachedStorer"),
        ),
        ({"imports": [StarletteCookie[Any]("theirs")]}, {"ASVS 5 3.3.3": "with no until="}),
        ({"imports": [Alias("old", transport=cookies(prefix=False))]}, {"ASVS 5 3.3.3": "imports=Alias('old')"}),
        ({"sealer": JWTSealer(KEYS, accept_typ=["JWT"])}, {"ASVS 5 9.1.1": "accept_typ=['jwt']"}),
        ({"sealer": JWTSealer(KEYS, leeway=HOUR)}, {"ASVS 5 9.1.1": "leeway=1:00:00"}),
        ({"sealer": Lax("changed")}, {"ASVS 5 7.2.1": "sealer=Lax: it opens a token that was changed"}),
        ({"sealer": Lax("another")}, {"ASVS 5 7.2.1": "sealer=Lax: it opens another session's token"}),
        ({"sealer": Lax("expired")}, {"ASVS 5 7.2.1": "sealer=Lax: it opens a token that has expired"}),
        ({"sealer": Lax("equal")}, {"ASVS 5 7.2.1": "sealer=Lax: equal claims make equal tokens"}),
    ],
)
def test_each_option_that_weakens_is_found_and_named(
    audit: Auditor, options: dict[str, Any], weakened: dict[str, str]
) -> None:
    found = [row for row in audit(stored(**options)) if row["verdict"] == "weakened"]
    assert len(found) == len(weakened)
    for source, option in weakened.items():
        (row,) = (row for row in found if row["source"].startswith(source))
        assert option in row["how"]


@pytest.mark.parametrize(
    ("options", "weakened"),
    [
        ({}, dict.fromkeys(COPIES, "revocations=None")),
        ({"revocations": MemoryStorer()}, {}),
        ({"revocations": MemoryStorer(), "max_lag": timedelta(seconds=5)}, dict.fromkeys(COPIES, "max_lag=0:00:05")),
    ],
)
def test_of_what_clients_hold_copies_outlive_a_logout_without_revocations(
    audit: Auditor, options: dict[str, Any], weakened: dict[str, str]
) -> None:
    found = [row for row in audit(held(**options)) if row["verdict"] == "weakened"]
    for source, option in {**weakened, "ASVS 5 7.5.2": "CookieOverseer"}.items():
        (row,) = (row for row in found if row["source"].startswith(source))
        assert option in row["how"]
    assert len(found) == len(weakened) + 1


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (stored(lifetime=Lifetime.nist_aal2()), {"NIST 800-63B-4 AAL2/AAL3": "enforced"}),
        (stored(lifetime=Lifetime.nist_aal3()), {"NIST 800-63B-4 AAL2/AAL3": "enforced"}),
        (stored(lifetime=Lifetime(rotate=HOUR)), {"OWASP sheet: renewal timeout": "enforced"}),
        (stored(transport=cookies(partitioned=True)), {"CHIPS": "enforced"}),
        (stored(codec=Careful()), {"ASVS 5 1.5.2": "assisted"}),
        (stored(sealer=AESGCMSealer(KEYS)), {"ASVS 5 11.2.2": "enforced", "ASVS 5 11.3.3, 11.3.4": "enforced"}),
        (stored(sealer=HMACSealer(KEYS)), {"ASVS 5 11.2.2": "enforced"}),
        (stored(sealer=Lax("")), {"ASVS 5 11.2.2": "assisted", "ASVS 5 11.3.3, 11.3.4": "assisted"}),
        *(
            (stored(sealer=sealer), {"ASVS 5 9.1.1-9.2.4; RFC 8725 §3": "enforced", "ASVS 5 11.2.2": "enforced"})
            for sealer in (
                JWTSealer(KEYS),
                JWTSealer(KEYS, valid_from=datetime.now(UTC) + 24 * HOUR),  # it cannot be tried before
                JWTSealer(PUBLIC, issuer="shop", audience="shop", algorithm="EdDSA"),  # nor one that only reads
            )
        ),
        (
            stored(sealer=JWTSealer(KEYS, encrypt=True)),
            dict.fromkeys(("ASVS 5 9.1.1-9.2.4; RFC 8725 §3", "ASVS 5 11.2.2", "ASVS 5 11.3.3, 11.3.4"), "enforced"),
        ),
        (
            stored(transport=HeaderTransport()),
            {
                source: "not applicable"
                for source in DEFAULTS
                if source.startswith(("ASVS 5 3.", "ASVS 5 4.", "6265bis"))
            },
        ),
    ],
)
def test_other_choices_change_no_more_than_their_rows(
    audit: Auditor, store: StorageOverseer[Cart], expected: dict[str, str]
) -> None:
    assert verdicts(audit(store)) == {**DEFAULTS, **expected}


def test_what_the_environment_weakens_is_named(audit: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOSESSIONS_DEBUG", "1")
    (row,) = (row for row in audit(stored()) if row["verdict"] == "weakened")
    assert row["how"].startswith("secure=False (AIOSESSIONS_DEBUG=1")


APPLICATION = """
from aiosessions import AESGCMSealer, CookieOverseer, DiskStorer, StorageOverseer, new_key, storer_from_url
print("starting")
kept = StorageOverseer(str, storer_from_url("redis://nowhere.invalid"), name="kept")
held = CookieOverseer(str, AESGCMSealer(new_key()), name="held")
stores = [kept, held]
class Namespace:
    store = kept
"""


def test_a_module_of_the_working_directory_in_a_process_of_its_own(tmp_path: Path) -> None:
    """No backend is asked; `--fail-on weakened` is for CI, and standard output is the document alone."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "shop.py").write_text(APPLICATION)
    root = str(Path(__file__).parent.parent)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "aiosessions", "audit", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "PYTHONPATH": root},
        )  # fmt: skip

    both = run("package.shop:stores", "--json", "--fail-on", "weakened")
    assert (both.returncode, both.stderr) == (1, "starting\n")
    document = json.loads(both.stdout)
    assert [each["store"].split()[1] for each in document["stores"]] == ["kept", "held"]
    one = run("package.shop:Namespace.store", "--fail-on", "weakened")
    assert one.returncode == 0
    assert "ASVS 5 7.2.1" in one.stdout
    assert "weakened" not in one.stdout


def test_the_working_directory_comes_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has a module of this name, too."""
    (tmp_path / "this.py").write_text(APPLICATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    try:
        assert main(["audit", "this:kept"]) == 0
    finally:
        sys.modules.pop("this", None)
    assert capsys.readouterr().out.startswith("store  <StorageOverseer kept")


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("", "shop", "give package.module:store"),
        ("", ":store", "give package.module:store"),
        ("", "no_such_module:store", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("", "{}:store", "AttributeError"),
        ("store = 1", "{}:store", "int is no StorageOverseer"),
        ("store = []", "{}:store", "empty list"),
        ("from aiosessions import StorageOverseer as store", "{}:store", "StorageOverseer is no"),
        ("raise SystemExit('usage')", "{}:store", "SystemExit: usage"),
        ("1 / 0", "{}:store", "ZeroDivisionError"),
        ("def", "{}:store", "SyntaxError"),
    ],
)
def test_what_cannot_be_audited_is_two_and_one_line(
    source: str,
    target: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"broken{abs(hash((source, target)))}"
    (tmp_path / f"{name}.py").write_text(source)
    before = list(sys.path)
    try:
        assert main(["audit", target.format(name)]) == 2
    finally:
        sys.modules.pop(name, None)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert sys.path == before
