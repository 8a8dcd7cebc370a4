"""The file of an SQLiteStorer: what may be one, and a connection to it.

WAL: who reads waits for nobody. `synchronous = FULL`: what a commit confirmed survives a loss of power.

What was written once is read for ever: tests/storers/test_samples.py has one.
"""

# ruff: noqa: PTH116  (a path is a str, as sqlite3 and the system calls take it)

import errno
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from aiosessions._errors import ConfigError

__all__ = ["File"]

Work = Callable[[sqlite3.Connection], Any]  # Any: what it answers
_APPLICATION = 0x61696F73  # "aios": whose file it is, for `file` too
_FORMAT = 1
_SCHEMA = (
    """CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    value TEXT NOT NULL,
    meta BLOB NOT NULL,
    owner TEXT,
    created_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    expires_at REAL,
    version INTEGER NOT NULL
)""",
    "CREATE INDEX sessions_owner ON sessions (owner) WHERE owner IS NOT NULL",
    "CREATE INDEX sessions_expires_at ON sessions (expires_at) WHERE expires_at IS NOT NULL",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_FORMAT}",
)
_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS's fsync leaves the data in the disk's own memory
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA journal_size_limit = 16777216",  # bytes: what a rush leaves of the log
)
_PROBE = b"\xff"  # no key's bytes


class File:
    """One file, for as long as somebody has it open.

    Args:
        path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path: str = path
        self._identity: tuple[int, int] | None = None

    @property
    def is_known(self) -> bool:
        """Whether it was fit once: what is wrong from then on is a failure, and no mistake."""
        return self._identity is not None

    def forget(self) -> None:
        """Nobody has it open: another may take its place."""
        self._identity = None

    def check(self) -> None:
        """Refuse to go on with a file that somebody moved or deleted: what is confirmed there is lost.

        Raises:
            OSError: it is not there, or another is.
        """
        found = os.stat(self.path)
        if self._identity not in (None, (found.st_dev, found.st_ino)):
            raise OSError(errno.ESTALE, "another file was put in its place while it was open: restart what uses it")

    def connect(self, *, probe: bool) -> sqlite3.Connection:
        """A connection in autocommit, which gives text as bytes and never waits for a lock.

        Makes what is missing: the file, for its owner alone, and the table.

        Args:
            probe: whether to write, read and delete something (S13).

        Raises:
            ConfigError: there can be no such file, or it is something else.
            sqlite3.Error: it is busy, damaged, or fails.
            OSError: the system fails.
        """
        if self.is_known:
            self.check()
        _make(self.path)
        with _explained(self.path):
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                connection.text_factory = bytes
                _prepare(connection, self.path)
                if probe:
                    _probe(connection, self.path)
            except BaseException:
                connection.close()
                raise
        found = os.stat(self.path)
        self._identity = found.st_dev, found.st_ino
        return connection

    def each(self, connection: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:  # Any: whatever they answer
        """Those that read."""
        self.check()
        return [work(connection) for work in works]

    def transaction(self, connection: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:  # Any: as above
        """Those that write: all confirmed by one commit, or none."""
        self.check()
        connection.execute("BEGIN IMMEDIATE")
        try:
            answers = [work(connection) for work in works]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite ends it itself where the disk is full
                connection.execute("ROLLBACK")
            raise
        return answers


def _make(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except FileNotFoundError as error:
            raise ConfigError(f"{path} cannot be made: make the folder that it is to lie in") from error
        except OSError as error:
            raise ConfigError(f"{path} cannot be made: {error.strerror}") from error
    except NotADirectoryError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from error
    else:
        _check(path, found)


def _check(path: str, found: os.stat_result) -> None:
    """Refuse what is no file, and what others could read, write, or put in its place (S11)."""
    if stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is a folder: give the path of a file")
    if stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"{path} is a link: give the file that it leads to")
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path} is no file: give another path")
    if sys.platform == "win32":  # whose modes say nothing
        return
    if found.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to another user (uid {found.st_uid}): give a file of one's own")
    if found.st_mode & 0o077:
        raise ConfigError(f"{path} is open to others: chmod 600 {path}")


@contextmanager
def _explained(path: str) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_NOTADB:
                raise ConfigError(f"{path} is no SQLite database: give another path") from error
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                raise ConfigError(
                    f"{path} cannot be written ({error}): the file must be writable, and its folder too, in which "
                    "SQLite keeps two more beside it"
                ) from error
            case _:
                raise


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN")  # one look at it: another may be making it
    is_made = _is_made(connection, path)
    connection.execute("COMMIT")
    mode = _number_or_text(connection, "PRAGMA journal_mode = WAL")
    if mode != b"wal":
        raise ConfigError(f"{path}: SQLite cannot keep its log (WAL) there: give a path on a local disk")
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    if is_made:
        return

    connection.execute("BEGIN IMMEDIATE")
    if not _is_made(connection, path):  # nobody was faster
        for statement in _SCHEMA:
            connection.execute(statement)
    connection.execute("COMMIT")


def _is_made(connection: sqlite3.Connection, path: str) -> bool:
    """Whether it is ours already; it may also be empty."""
    application = _number_or_text(connection, "PRAGMA application_id")
    form = _number_or_text(connection, "PRAGMA user_version")
    if (application, form) == (_APPLICATION, _FORMAT):
        return True
    if application == _APPLICATION:
        raise ConfigError(f"{path} was made by another version of aiosessions (format {form})")
    if application or form or _number_or_text(connection, "SELECT count(*) FROM sqlite_master"):
        raise ConfigError(f"{path} is a database of something else: give sessions a file of their own")
    return False


def _probe(connection: sqlite3.Connection, path: str) -> None:
    """Nobody ever sees it: it is one transaction, which writes to the disk all the same."""
    connection.execute("BEGIN IMMEDIATE")
    insert = "INSERT INTO sessions (key, value, meta, created_at, seen_at, version) VALUES (?, '', x'', 0, 0, 0)"
    connection.execute(insert, (_PROBE,))
    found = connection.execute("SELECT count(*) FROM sessions WHERE key = ?", (_PROBE,)).fetchone()
    removed = connection.execute("DELETE FROM sessions WHERE key = ?", (_PROBE,)).rowcount
    if (found, removed) != ((1,), 1):
        raise ConfigError(f"{path} does not keep what is written: has somebody changed its table?")
    connection.execute("COMMIT")


def _number_or_text(connection: sqlite3.Connection, statement: str) -> object:
    (answer,) = connection.execute(statement).fetchone()
    return answer
