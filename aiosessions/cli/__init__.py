"""The command line: try the library out, make keys, look into tokens, print the SQL; and what operators ask.

The former need no extra; the latter, which read storers and print tables, need `cli` (click and rich).
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import aiosessions
from aiosessions._errors import ConfigError

if TYPE_CHECKING:
    from aiosessions.cli.token_report import TokenReport
    from aiosessions.sealers.sealer import Sealer

__all__ = ["main"]

_Run = Callable[[argparse.Namespace], int]
_OPERATORS = {
    "users": "show or end the sessions of a user",
    "sessions": "list all sessions; show or end one",
    "clean": "remove what has expired",
    "stats": "count live sessions",
    "check": "try a storer: write and read, round trip, eviction, clock",
    "audit": "say what standards ask of a store, and how it answers",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows the program's name; None: this process's own.

    Returns:
        The exit code: 0 for success, 1 for a finding (a check that failed, a token that is none), 2 for a command that
        could not run; and 3 where a backend failed.
    """
    given = sys.argv[1:] if arguments is None else arguments
    command = given[0].partition("=")[0] if given else ""
    try:
        if given and given[0] in _OPERATORS:
            from aiosessions.cli.operators import run as run_operators

            return run_operators(given)

        return _run(given)
    except ConfigError as error:
        print(f"aiosessions {command}: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        # A module whose driver or framework is not installed names its extra; any other such error is a broken install.
        if "aiosessions[" not in str(error):
            raise
        print(f"aiosessions {command}: {error}", file=sys.stderr)
        return 2


def _run(given: Sequence[str]) -> int:
    if given and given[0].startswith("-") and given[0] not in ("-h", "--help", "--version"):
        # argparse would take what follows for the command, and print it: it may be a URL with a password
        raise ConfigError("options come after the command, as in `aiosessions stats --store URL`")
    parser = _parser()
    options = parser.parse_args(_tokens_last(given))
    run: _Run | None = options.run
    if run is None:
        parser.print_help()
        return 0
    return run(options)


def _tokens_last(arguments: Sequence[str]) -> list[str]:
    """One token in 64 begins with "-", which argparse takes for an option; no option is as long as a token."""
    tokens = [argument for argument in arguments if argument.startswith("-") and len(argument) > 40]
    others = [argument for argument in arguments if argument not in tokens]
    return [*others, "--", *tokens] if tokens else others


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("aiosessions", description="Typed, race-proof web sessions for asyncio Python.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {aiosessions.__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    demo = commands.add_parser("demo", help="serve a small shop and print what the library does for each request")
    demo.add_argument("--check", action="store_true", help="visit the shop as a browser would, then end; 0 if all held")
    demo.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    demo.add_argument("--port", type=int, default=8000, help="the port to listen on (%(default)s)")
    demo.set_defaults(run=_demo)

    new_key = commands.add_parser("new-key", help="print a new key: 256 bits, base64url")
    new_key.set_defaults(run=_new_key)

    inspect = commands.add_parser("inspect", help="say what a token is, how old, under which key; never a secret")
    inspect.add_argument("token", metavar="TOKEN", help="a cookie's or header's value; - reads it from standard input")
    inspect.add_argument("--keys", metavar="VARIABLE", help="verify it with the keys in this environment variable")
    inspect.add_argument(
        "--name", default="app", help="the session's name, after NAMESPACE: if it has one (%(default)s)"
    )
    inspect.add_argument("--issuer", help="of a JWT")
    inspect.add_argument("--audience", help="of a JWT")
    inspect.add_argument("--algorithm", default="HS256", help="of a signed JWT (%(default)s)")
    inspect.set_defaults(run=_inspect)

    schema = commands.add_parser("schema", help="print the SQL of a PostgresStorer's table")
    schema.add_argument("--table", default="sessions", help="the table's name (%(default)s)")
    schema.add_argument("--column", choices=("jsonb", "bytea"), default="jsonb", help="the value's type (%(default)s)")
    schema.add_argument("--unlogged", action="store_true", help="faster, and empty after a crash of the server")
    schema.set_defaults(run=_schema)

    for name, what in _OPERATORS.items():
        commands.add_parser(name, help=f"{what} (needs aiosessions[cli])")
    return parser


def _demo(options: argparse.Namespace) -> int:
    from aiosessions.demo import main as demo

    check: bool = options.check
    host: str = options.host
    port: int = options.port
    return demo(check=check, host=host, port=port)


def _new_key(_: argparse.Namespace) -> int:
    from aiosessions import new_key

    print(new_key())
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from aiosessions.cli.token_report import claims_rows, read

    given: str = options.token
    token = (sys.stdin.read() if given == "-" else given).strip()
    now = time.time()
    report = read(token, now=now)
    if report is None:
        print("no token of this library, or one that was cut or changed")
        return 1

    _print_rows(("kind", report.kind), *report.rows)
    sealer = _sealer(report, options)
    if sealer is None:
        print("\nNOT VERIFIED: anybody could have written what stands here.")
        return 0

    claims = sealer.open(token, name=options.name, now=now)
    if claims is None:
        print("\nREFUSED: forged, expired, of another name, or under none of these keys. Nothing above is verified.")
        return 1

    print(f"\nVERIFIED with the keys in {options.keys}, as a token of {options.name!r}, not expired:")
    _print_rows(*claims_rows(claims, now=now))
    return 0


def _sealer(report: "TokenReport", options: argparse.Namespace) -> "Sealer | None":
    """What can verify it; None without keys, and for a reference, which only its store can."""
    if options.keys is None or report.sealer is None:
        return None
    if options.keys not in os.environ:
        raise ConfigError(f"--keys {options.keys}: there is no such environment variable")

    if report.sealer == "jwt":
        from aiosessions.sealers.jwt import JWTSealer

        return JWTSealer(
            os.environ[options.keys],
            issuer=options.issuer,
            audience=options.audience,
            algorithm=options.algorithm,
            foreign_name=options.name,
            encrypt=report.is_encrypted,
        )
    if report.sealer == "hmac":
        from aiosessions.sealers.hmac import HMACSealer

        return HMACSealer(os.environ[options.keys])

    from aiosessions.sealers.aesgcm import AESGCMSealer

    return AESGCMSealer(os.environ[options.keys])


def _print_rows(*rows: tuple[str, str]) -> None:
    for label, text in rows:
        print(f"{label:<12} {text}")


def _schema(options: argparse.Namespace) -> int:
    # The SQL itself needs no driver.
    from aiosessions.storers._postgres_schema import schema_sql

    print(schema_sql(table=options.table, column=options.column, unlogged=options.unlogged))
    return 0
