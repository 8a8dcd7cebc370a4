"""`storer_from_url`: schemes, options, ownership, and passwords that stay secret."""

import logging
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from aiosessions import ConfigError, StorerError, storer_from_url
from aiosessions.storers.storer import Openable

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "<MemoryStorer of 0 records>"),
        ("memory:?max_sessions=5", "<MemoryStorer of 0 records>"),
        ("redis://", "<RedisStorer of 'session:', Redis at localhost:6379>"),
        (f"redis://ann:{PASSWORD}@db:7/3?prefix=a:&timeout=2", "<RedisStorer of 'a:', Redis at db:7>"),
        (f"rediss://:{PASSWORD}@db", "<RedisStorer of 'session:', Redis at db:6379>"),
        ("valkey://db/0", "<RedisStorer of 'session:', Redis at db:6379>"),
        ("valkeys://db?ssl_cert_reqs=none", "<RedisStorer of 'session:', Redis at db:6379>"),
        ("redict:/run/redict.sock?db=2", "<RedisStorer of 'session:', Redis at /run/redict.sock>"),
        ("redis://%2Frun%2FRedict%20A.sock/2", "<RedisStorer of 'session:', Redis at /run/Redict A.sock>"),
        (f"redis+sentinel://:{PASSWORD}@a,b:7/shop/2", "<RedisStorer of 'session:', Redis service 'shop'>"),
        ("valkeys+sentinel://a/shop?sentinel_password=x", "<RedisStorer of 'session:', Redis service 'shop'>"),
        ("redis://a,b:7?cluster=true", "<RedisStorer of 'session:', Redis cluster at a:6379, b:7>"),
        (f"postgresql://ann:{PASSWORD}@db/shop", '<PostgresStorer "sessions" in PostgreSQL at db:5432>'),
        ("postgres://a:1,b/shop?table=x.y&sslmode=disable", '<PostgresStorer "x"."y" in PostgreSQL at a:1,b:5432>'),
        ("postgresql:///shop?host=/tmp&port=7", '<PostgresStorer "sessions" in PostgreSQL at /tmp:7>'),
        ("memcached:", "<MemcachedStorer 'session:' in memcached at localhost:11211>"),
        (f"memcached://ann:{PASSWORD}@a:1,b?prefix=x", "<MemcachedStorer 'x' in memcached at a:1,b:11211>"),
        ("memcached:/run/mc.sock", "<MemcachedStorer 'session:' in memcached at /run/mc.sock>"),
    ],
)
def test_a_url_names_a_storer_whose_repr_has_no_password(url: str, shown: str) -> None:
    """S16: without an event loop, and before anything is connected."""
    assert repr(storer_from_url(url)) == shown


def test_a_disk_url_names_a_folder(tmp_path: Path) -> None:
    """With two spellings."""
    for start in ("disk:", "disk://"):
        assert str(tmp_path / "a b") in repr(storer_from_url(f"{start}{tmp_path}/a%20b?fsync=true"))


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sqlite:sessions.db", "{here}/sessions.db"),
        ("sqlite:./a%20b.db?timeout=2.5", "{here}/a b.db"),
        ("sqlite:/var/lib/sessions.db", "/var/lib/sessions.db"),
        ("sqlite:///var/lib/sessions.db", "/var/lib/sessions.db"),
        ("sqlite:////var/lib/sessions.db", "/var/lib/sessions.db"),
    ],
)
def test_an_sqlite_url_names_a_file(url: str, named: str) -> None:
    """S16: nothing is made before `open`; a path from the root also with the slashes that SQLAlchemy wants."""
    assert repr(storer_from_url(url)) == f"<SQLiteStorer of {named.format(here=Path.cwd())}>"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no scheme"),
        ("/var/lib/sessions", "no scheme"),
        (f"nats://ann:{PASSWORD}@db", "no storer for nats: .* disk, memcached, memory, postgres.*, sqlite"),
        (f"redis://ann:{PASSWORD}@db?colour=red", "unknown option colour; there are .*prefix"),
        (f"redis://ann:{PASSWORD}@db?timeout=soon", "option timeout cannot be 'soon'"),
        (f"redis://ann:{PASSWORD}@db?timeout=0", "timeout cannot be '0': give seconds"),
        (f"redis://ann:{PASSWORD}@db?timeout=1&timeout=2", "comes twice"),
        (f"redis://ann:{PASSWORD}@db?timeout=inf", "timeout cannot be 'inf': give seconds"),
        (f"redis://ann:{PASSWORD}@db?timeout=nan", "timeout cannot be 'nan'"),
        (f"redis://ann:{PASSWORD}@db/3?db=4", "the database comes twice"),
        (f"redis://ann:{PASSWORD}@db?db=-1", "db cannot be '-1': give 0 or more"),
        (f"redis://ann:{PASSWORD}@db?max_connections=-5", "max_connections cannot be '-5': give 1 or more"),
        (f"redis://ann:{PASSWORD}@db?max_connections=0", "max_connections cannot be '0': give 1 or more"),
        (f"redis://ann:{PASSWORD}@db?socket_timeout=inf", "socket_timeout cannot be 'inf'"),
        (f"redis://ann:{PASSWORD}@db?health_check_interval=-1", "health_check_interval cannot be '-1'"),
        (f"redis://ann:{PASSWORD}@db?wait_replicas=-1", "wait_replicas=-1"),
        (f"redis://ann:{PASSWORD}@db?protocol=7", "protocol cannot be '7'"),
        (f"redis+sentinel://ann:{PASSWORD}@db", "the name that they watch"),
        (f"redis+sentinel://ann:{PASSWORD}@db/shop/x", "number of a database"),
        (f"redis://ann:{PASSWORD}@db?cluster=perhaps", "cluster cannot be 'perhaps': give true or false"),
        (f"redis://ann:{PASSWORD}@db/shop", "number of a database"),
        (f"redis://ann:{PASSWORD}@db/3?cluster=yes", "database 0 only"),
        (f"redis://ann:{PASSWORD}@a,b", "cluster=true"),
        (f"redis://ann:{PASSWORD}@db?timeout", "malformed"),
        (f"redis://ann:{PASSWORD}@db:{PASSWORD}", "malformed"),
        (f"redis://ann:{PASSWORD}@[db", "malformed"),
        (f"postgresql://ann:1/{PASSWORD}@db", "malformed.*%2F"),
        (f"postgresql://ann:1#{PASSWORD}@db", "malformed.*%23"),
        (f"postgresql://ann:1?{PASSWORD}@db", "malformed.*%3F"),
        (f"postgresql://ann:{PASSWORD}@db?work_mem=1GB", "unknown option work_mem; there are .*sslmode"),
        (f"postgresql://ann:{PASSWORD}@db?column=text", "column='text'"),
        (f"postgresql://ann:{PASSWORD}@db?table=a-b", "table='a-b'"),
        (f"postgresql://ann:{PASSWORD}@db?unlogged=maybe", "unlogged cannot be 'maybe'"),
        (f"postgresql://ann:{PASSWORD}@db?max_size=0", "max_size"),
        (f"postgresql://ann:{PASSWORD}@db?port=x", "option port cannot be 'x'"),
        (f"memcached://ann:{PASSWORD}@db?prefix=a%20b", "prefix='a b'"),
        (f"memcached://ann:{PASSWORD}@db/run/mc.sock", "hosts, or the path"),
        (f"memcached://ann:{PASSWORD}@db?min_connections=9&max_connections=2", "min_connections"),
        ("memcached://ann@db", "user and password"),
        ("memory:?max_sessions=-1", "max_sessions cannot be '-1': give 1 or more"),
        ("memory:?max_sessions=many", "memory: the option max_sessions"),
        ("memory:?prefix=a", "unknown option prefix; there are max_sessions"),
        ("disk:", "no folder"),
        ("disk://server/share", "no host"),
        ("sqlite:", "no file"),
        ("sqlite://", "no file"),
        ("sqlite://sessions.db", "no host"),
        ("sqlite::memory:", "MemoryStorer"),
        ("sqlite:///:memory:", "MemoryStorer"),
        ("sqlite:a.db?timeout=soon", "option timeout cannot be 'soon'"),
        ("sqlite:a.db?mode=ro", "unknown option mode; there are timeout"),
    ],
)
def test_what_cannot_be_is_refused_without_the_password(url: str, said: str) -> None:
    """The message says what to give instead, and nowhere in the traceback's own lines is a password."""
    with pytest.raises(ConfigError, match=said) as caught:
        storer_from_url(url)
    assert PASSWORD not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("scheme", ["redis", "postgresql", "memcached"])
async def test_open_fails_fast_and_names_host_and_port_but_never_the_password(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 3: for a port that nobody listens on; neither error nor cause nor log has the password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    storer = storer_from_url(f"{scheme}://ann:{PASSWORD}@127.0.0.1:{port}?timeout=0.5")
    assert isinstance(storer, Openable)
    with caplog.at_level(logging.DEBUG), pytest.raises(StorerError, match=f"127.0.0.1:{port}") as caught:
        await storer.open()
    assert caught.value.__cause__ is not None
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(storer)
    await storer.aclose()


@pytest.mark.parametrize(
    ("scheme", "driver", "extra"), [("redis", "redis", "redis"), ("postgresql", "asyncpg", "postgres"),
                                    ("memcached", "emcache", "memcached")]
)  # fmt: skip
def test_a_missing_driver_is_an_import_error_that_names_the_extra(scheme: str, driver: str, extra: str) -> None:
    """Issue 2: in an interpreter where the driver cannot be imported."""
    code = f"""
import sys
sys.modules[{driver!r}] = None
from aiosessions import storer_from_url
try:
    storer_from_url("{scheme}://db")
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f'pip install "aiosessions[{extra}]"' in done.stdout
