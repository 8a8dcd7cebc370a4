"""The table of a PostgresStorer: how it is made, and whether one that is there is ours."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from aiosessions._errors import ConfigError

__all__ = ["Found", "Layout", "schema_sql"]

_SWEPT = "clean_at"
_FILL = 80  # per cent of a page: a touch finds room beside its row
# The names of indexes, function and trigger are the table's with a suffix, and PostgreSQL cuts names at 63 bytes.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}", re.ASCII)


@dataclass(frozen=True)
class Found:
    """What `Layout.inspect` answers.

    Args:
        encoding: the database's encoding.
        persistence: "p" logged, "u" unlogged, "t" temporary; None: there is no such table.
        columns: name and type of each column, in one text.
        indexed: the columns that lead an index.
        unique: the columns that alone are unique.
        has_trigger: whether `updated_at` is kept by our trigger.
    """

    encoding: str
    persistence: str | None
    columns: frozenset[str]
    indexed: frozenset[str]
    unique: frozenset[str]
    has_trigger: bool


class Layout:
    """How one table is called and made.

    Args:
        table: its name, `schema.name` where it is not found by the search path. Upper case is kept.
        column: whether values are kept as documents or as bytes.
        unlogged: whether the table is written without a log.

    Raises:
        ConfigError: a name that is no identifier, or a column type that is neither.
    """

    inspect: Final = """\
SELECT current_setting('server_encoding'), c.relpersistence::text,
    ARRAY(SELECT a.attname || ' ' || format_type(a.atttypid, NULL) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = c.oid),
    ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL),
    EXISTS(SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = $2::text)
FROM (SELECT to_regclass($1::text) AS oid) t LEFT JOIN pg_class c ON c.oid = t.oid"""

    def __init__(self, table: str, column: Literal["jsonb", "bytea"], *, unlogged: bool) -> None:
        schema, dot, name = table.rpartition(".")
        if not _NAME.fullmatch(name) or (dot and not _NAME.fullmatch(schema)):
            raise ConfigError(
                f"table={table!r}: give a name, or schema.name, of letters, digits and underscores, at most 48 of each"
            )
        if column not in ("jsonb", "bytea"):
            raise ConfigError(f"column={column!r}: give 'jsonb' or 'bytea'")
        self.is_jsonb = column == "jsonb"
        self.unlogged = unlogged
        self.table = f'"{schema}"."{name}"' if dot else f'"{name}"'
        self.trigger = f"{name}_updated_at"
        self.lock = f"aiosessions {self.table}"
        self.schema = schema or None
        self.name = name
        self._function = self._named("updated_at")
        values = {"value": "jsonb", "raw": "bytea"} if self.is_jsonb else {"value": "bytea NOT NULL"}
        self._columns = {
            "key_hash": "bytea PRIMARY KEY",
            "key": "text NOT NULL",
            **values,
            "meta": "bytea NOT NULL",
            "user_id": "text",
            "created_at": "timestamp with time zone NOT NULL",
            "updated_at": "timestamp with time zone NOT NULL DEFAULT now()",
            "seen_at": "timestamp with time zone NOT NULL",
            "expires_at": "timestamp with time zone",
            "forget_at": "timestamp with time zone NOT NULL DEFAULT 'infinity'",
            "clean_at": "timestamp with time zone NOT NULL DEFAULT '-infinity'",
            "version": "bigint NOT NULL",
        }

    def create(self) -> str:
        """All of it, as often as you like."""
        columns = ",\n".join(f'    "{name}" {definition}' for name, definition in self._columns.items())
        unlogged = "UNLOGGED " if self.unlogged else ""
        return (
            f"CREATE {unlogged}TABLE IF NOT EXISTS {self.table} (\n{columns}\n) WITH (fillfactor = {_FILL});\n"
            f"{self.complete(missing=(_SWEPT,))}"
        )

    def complete(self, *, missing: tuple[str, ...] = ()) -> str:
        """The *missing* columns, and what belongs to the table beside them.

        The trigger's condition keeps touches, and writes of an equal value, out of `updated_at`.
        """
        values = ", ".join(f'"{name}"' for name in ("value", "raw") if name in self._columns)
        changed = " OR ".join(
            f'OLD."{name}" IS DISTINCT FROM NEW."{name}"' for name in ("value", "raw") if name in self._columns
        )
        added = "".join(
            f'ALTER TABLE {self.table} ADD COLUMN IF NOT EXISTS "{name}" {self._columns[name]};\n' for name in missing
        )
        return f"""\
{added}\
CREATE INDEX IF NOT EXISTS "{self.name}_by_user" ON {self.table} ("user_id", "key_hash") WHERE "user_id" IS NOT NULL;
DROP INDEX IF EXISTS {self._named("user_id")};
CREATE INDEX IF NOT EXISTS "{self.name}_clean_at" ON {self.table} ("clean_at");
DROP INDEX IF EXISTS {self._named("forget_at")};
CREATE OR REPLACE FUNCTION {self._function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW."updated_at" := now();
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER "{self.trigger}" BEFORE UPDATE OF {values} ON {self.table} FOR EACH ROW
    WHEN ({changed})
    EXECUTE FUNCTION {self._function}();
"""

    def to_run(self, found: Found) -> str:
        """The SQL that is still to run before the table can be used; "" for a table that is complete.

        Raises:
            ConfigError: this table cannot be made ours without losing something; the message has the statement.
        """
        if found.encoding != "UTF8":
            raise ConfigError(f"the database's encoding is {found.encoding}: sessions need one created with UTF8")
        if found.persistence is None:
            return self.create()

        present = dict(column.split(" ", 1) for column in found.columns)
        missing = tuple(name for name in self._columns if name not in present)
        wrong = [
            f"{name} is {present[name]}"
            for name, definition in self._columns.items()
            if name in present and not definition.startswith(present[name])
        ]
        # A column that may be empty, or has a default, can be added to rows that are there.
        wrong += [f"{name} is missing" for name in missing if not self._may_be_added(name)]
        if not wrong and "key_hash" not in found.unique:
            wrong.append("key_hash is not unique")
        if wrong:
            raise ConfigError(
                f"table {self.table} is not one of ours ({', '.join(wrong)}): choose another table= or column=, "
                f'or run: ALTER TABLE {self.table} RENAME TO "{self.name}_old"'
            )
        if (found.persistence == "u") is not self.unlogged:
            said, fix = ("unlogged=True", "UNLOGGED") if self.unlogged else ("unlogged=False", "LOGGED")
            raise ConfigError(f"{said}, and table {self.table} is not so: run: ALTER TABLE {self.table} SET {fix}")
        # An earlier version's table is left as it is, unless something else is missing: to change it may take long.
        older = missing == (_SWEPT,)
        swept = "forget_at" if older else _SWEPT
        if (missing and not older) or not found.has_trigger or not {"user_id", swept} <= found.indexed:
            return self.complete(missing=missing)
        return ""

    def is_swept(self, found: Found) -> bool:
        """Whether the table has `clean_at`; one that an earlier version made works without."""
        return found.persistence is None or _SWEPT in {column.partition(" ")[0] for column in found.columns}

    def _named(self, suffix: str) -> str:
        """An index or a function of the table's."""
        prefix = f'"{self.schema}".' if self.schema else ""
        return f'{prefix}"{self.name}_{suffix}"'

    def _may_be_added(self, name: str) -> bool:
        definition = self._columns[name]
        return "DEFAULT" in definition or not ("NOT NULL" in definition or "PRIMARY KEY" in definition)


def schema_sql(*, table: str = "sessions", column: Literal["jsonb", "bytea"] = "jsonb", unlogged: bool = False) -> str:
    """The exact SQL that `PostgresStorer.open` runs on a database without the table, for those who migrate themselves.

    Args: as for `PostgresStorer`.

    Raises:
        ConfigError: a name that is no identifier, or a column type that is neither.
    """
    return Layout(table, column, unlogged=unlogged).create()
