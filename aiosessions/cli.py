"""The command line: try the library out, make keys, look into tokens, print the SQL."""

import argparse
import sys
from collections.abc import Callable, Sequence

__all__ = ["main"]

_Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows the program's name; None: this process's own.

    Returns:
        The exit code: 0 for success, 1 for a finding (a check that failed, a token that is none), 2 for a command that
        could not run.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    run: _Run | None = options.run
    if run is None:
        parser.print_help()
        return 0

    try:
        return run(options)
    except ImportError as error:
        # A module whose driver or framework is not installed names its extra; any other such error is a broken install.
        if "aiosessions[" not in str(error):
            raise
        print(f"aiosessions {options.command}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("aiosessions", description="Typed, race-proof web sessions for asyncio Python.")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    demo = commands.add_parser("demo", help="serve a small shop and print what the library does for each request")
    demo.add_argument("--check", action="store_true", help="visit the shop as a browser would, then end; 0 if all held")
    demo.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    demo.add_argument("--port", type=int, default=8000, help="the port to listen on (%(default)s)")
    demo.set_defaults(run=_demo)

    new_key = commands.add_parser("new-key", help="print a new key: 256 bits, base64url")
    new_key.set_defaults(run=_new_key)
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
