"""What a PostgresStorer says to its table."""

# ruff: noqa: S608 - the name of the table is checked and quoted by Layout, values are parameters

from typing import Final

from aiosessions.storers._postgres_schema import Layout

__all__ = ["Statements"]

_LIVE = "forget_at > now()"
_DEAD = "forget_at < now() - interval '1 minute'"

# The arguments of each write, in their order: alone it has them as $1, $2, ...; several have a list of each.
_ROW: Final = {
    "key_hash": "bytea",
    "key": "text",
    "text": "text",
    "raw": "bytea",
    "meta": "bytea",
    "user_id": "text",
    "created_at": "float8",
    "seen_at": "float8",
    "expires_at": "float8",
    "version": "bigint",
    "lives": "float8",
}
_REPLACE: Final = {**_ROW, "expected": "bigint"}
_TOUCH: Final = {"key_hash": "bytea", "seen_at": "float8", "expires_at": "float8", "lives": "float8"}
_DELETE: Final = {"key_hash": "bytea", "expected": "bigint"}


class Statements:
    """The SQL, for one call or, where its name begins with `all`, for the calls of one tick, each of another key.

    Rows are found by the server's clock: `forget_at` is the server's time of the write plus the lifetime that the write
    asked for.

    What is said for several waits for nobody: it passes over rows that are locked, and answers with the keys that it
    has done. Each of the others, whether it was locked, absent or at another version, is for a call of its own.

    No indexed column moves with a touch, so that PostgreSQL can make it without a look at any index (a HOT update):
    `clean_at`, where `clean` finds what may have expired, is left behind, and `clean` moves it on.

    Args:
        layout: the table.
        is_swept: whether it has `clean_at`. Without, `clean` goes by `forget_at`, which is then indexed.
    """

    def __init__(self, layout: Layout, *, is_swept: bool = True) -> None:
        table = layout.table
        value = "value::text, raw" if layout.is_jsonb else "NULL::text, value"
        # date_part gives a float8 at once, extract a numeric: half of a read.
        times = ", ".join(f"date_part('epoch', {name})" for name in ("created_at", "seen_at", "expires_at"))
        record = f"{value}, meta, user_id, {times}, version"

        self.read = f"SELECT key_hash, {record} FROM {table} WHERE key_hash = ANY($1::bytea[]) AND {_LIVE}"

        given = {name: f"${number}::{kind}" for number, (name, kind) in enumerate(_REPLACE.items(), 1)}
        listed = {name: f"n.{name}" for name in _REPLACE}
        written = _written(given, is_jsonb=layout.is_jsonb)
        inserted = {**written, "clean_at": written["forget_at"]} if is_swept else written
        columns = ", ".join(inserted)
        excluded = {name: f"EXCLUDED.{name}" for name in inserted} | {"updated_at": "now()"}
        self.create = f"""\
INSERT INTO {table} AS s (key_hash, {columns}) VALUES ($1, {", ".join(inserted.values())})
ON CONFLICT (key_hash) DO UPDATE SET {_assign(excluded, "EXCLUDED.version")}
WHERE s.forget_at <= now() OR s.version = EXCLUDED.version RETURNING true"""
        self.replace = f"""\
UPDATE {table} s SET {_assign(_moved(written, is_swept=is_swept), given["version"])}
WHERE key_hash = $1 AND {_fits(given)} RETURNING true"""

        written = _written(listed, is_jsonb=layout.is_jsonb)
        inserted = {**written, "clean_at": written["forget_at"]} if is_swept else written
        self.all_create = f"""\
INSERT INTO {table} (key_hash, {columns}) SELECT n.key_hash, {", ".join(inserted.values())} FROM {_list(_ROW)}
ON CONFLICT (key_hash) DO NOTHING RETURNING key_hash, true"""
        self.all_replace = f"""\
{_free(table, _REPLACE, _fits(listed))}
UPDATE {table} s SET {_assign(_moved(written, is_swept=is_swept), "n.version")} FROM n, free
WHERE n.key_hash = free.key_hash AND s.key_hash = free.key_hash AND {_fits(listed)} RETURNING s.key_hash, true"""

        given = {name: f"${number}::{kind}" for number, (name, kind) in enumerate(_TOUCH.items(), 1)}
        self.touch = f"UPDATE {table} s SET {_touched(given)} WHERE key_hash = $1 AND {_LIVE} RETURNING true"
        self.all_touch = f"""\
{_free(table, _TOUCH, _LIVE)}
UPDATE {table} s SET {_touched(listed)} FROM n, free
WHERE n.key_hash = free.key_hash AND s.key_hash = free.key_hash AND {_LIVE} RETURNING s.key_hash, true"""

        fits = "({0}::bigint IS NULL OR s.version = {0})"
        self.delete = f"DELETE FROM {table} s WHERE key_hash = $1 AND {fits.format('$2')} RETURNING {_LIVE}"
        self.all_delete = f"""\
{_free(table, _DELETE, fits.format("n.expected"))}
DELETE FROM {table} s USING n, free
WHERE n.key_hash = free.key_hash AND s.key_hash = free.key_hash AND {fits.format("n.expected")}
RETURNING s.key_hash, {_LIVE}"""

        # A page of all that are theirs, in the order of the index and from it alone: what is not asked for has no key.
        self.list_by_owner = f"""\
SELECT page.key_hash, t.key, {record} FROM (
    SELECT key_hash FROM {table} WHERE user_id = $1 AND key_hash > $3 ORDER BY key_hash LIMIT $4
) page LEFT JOIN {table} t ON t.key_hash = page.key_hash AND user_id = $1 AND starts_with(key, $2) AND {_LIVE}
ORDER BY page.key_hash"""
        # Locked in one order, so that two logouts of one user cannot each wait for the other.
        self.delete_by_owner = f"""\
WITH theirs AS (
    SELECT key_hash FROM {table}
    WHERE user_id = $1 AND starts_with(key, $2) AND key_hash IS DISTINCT FROM $3::bytea
    ORDER BY key_hash FOR UPDATE
), gone AS (
    DELETE FROM {table} t USING theirs WHERE t.key_hash = theirs.key_hash RETURNING {_LIVE} AS live
) SELECT count(*) FILTER (WHERE live) FROM gone"""
        self.keys = f"SELECT key_hash, key FROM {table} WHERE key_hash > $1 AND {_LIVE} ORDER BY key_hash LIMIT $2"
        due = "clean_at" if is_swept else "forget_at"
        later = f"""\
, later AS (
    UPDATE {table} SET clean_at = forget_at
    WHERE key_hash = ANY(ARRAY(SELECT key_hash FROM due WHERE NOT is_dead)) AND NOT {_DEAD}
)"""
        # The lock lives as long as the statement: nothing is left behind in a connection that pgbouncer shares. $3 is
        # where the batch before ended: what it left behind in the index is not passed again. An array is looked up in
        # the index, however many rows the planner believes there are.
        self.clean = f"""\
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended($1, 1)) AS ours
), due AS MATERIALIZED (
    SELECT key_hash, {due} AS due_at, {_DEAD} AS is_dead FROM {table}
    WHERE (SELECT ours FROM turn) AND {due} < now() - interval '1 minute' AND {due} >= to_timestamp($3::float8)
    ORDER BY {due} LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {table} WHERE key_hash = ANY(ARRAY(SELECT key_hash FROM due WHERE is_dead)) AND {_DEAD} RETURNING true
){later if is_swept else ""}
SELECT (SELECT count(*) FROM gone), count(*), date_part('epoch', max(due_at)) FROM due"""


def _list(arguments: dict[str, str]) -> str:
    """The calls as rows `n`, from one array for each argument."""
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(arguments.values(), 1))
    return f"unnest({arrays}) AS n({', '.join(arguments)})"


def _free(table: str, arguments: dict[str, str], fits: str) -> str:
    """The calls, and the keys of those whose rows fit and that nobody else holds: they are now ours."""
    return f"""\
WITH n AS (SELECT * FROM {_list(arguments)}), free AS (
    SELECT s.key_hash FROM n JOIN {table} s ON s.key_hash = n.key_hash WHERE {fits} FOR UPDATE OF s SKIP LOCKED
)"""


def _fits(argument: dict[str, str]) -> str:
    return f"s.version IN ({argument['version']}, {argument['expected']}) AND {_LIVE}"


def _written(argument: dict[str, str], *, is_jsonb: bool) -> dict[str, str]:
    """What each column is set to."""
    values = {"value": f"{argument['text']}::jsonb", "raw": argument["raw"]}
    if not is_jsonb:
        # The text keeps its place, so that both layouts take the same arguments.
        values = {"value": f"coalesce({argument['raw']}, convert_to({argument['text']}, 'UTF8'))"}
    return {
        "key": argument["key"],
        **values,
        "meta": argument["meta"],
        "user_id": argument["user_id"],
        **{name: f"to_timestamp({argument[name]})" for name in ("created_at", "seen_at", "expires_at")},
        "version": argument["version"],
        "forget_at": _from_now(argument["lives"]),
    }


def _moved(written: dict[str, str], *, is_swept: bool) -> dict[str, str]:
    """For a row that is there: what ends sooner is to be found sooner."""
    return {**written, "clean_at": f"least(s.clean_at, {written['forget_at']})"} if is_swept else written


def _touched(argument: dict[str, str]) -> str:
    # greatest() would pass over a NULL, which in expires_at is later than any time.
    return f"""seen_at = greatest(s.seen_at, to_timestamp({argument["seen_at"]})),
    expires_at = CASE WHEN s.expires_at IS NOT NULL AND {argument["expires_at"]} IS NOT NULL
        THEN greatest(s.expires_at, to_timestamp({argument["expires_at"]})) END,
    forget_at = greatest(s.forget_at, {_from_now(argument["lives"])})"""


def _from_now(seconds: str) -> str:
    return f"coalesce(now() + make_interval(secs => {seconds}), 'infinity')"


def _assign(columns: dict[str, str], version: str) -> str:
    """For SET: but a row that has this *version* was written before, and what a touch moved since then stays (S6)."""
    touched = ("seen_at", "expires_at", "forget_at", "clean_at", "updated_at")
    return ", ".join(
        f"{name} = CASE WHEN s.version = {version} THEN s.{name} ELSE {new} END"
        if name in touched
        else f"{name} = {new}"
        for name, new in columns.items()
    )
