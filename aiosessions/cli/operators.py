"""What operators ask of a storer: who is logged in, end them, clean, look whether it works."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio

from aiosessions._errors import ConfigError, StorerError, UnsupportedError
from aiosessions._tokens import is_handle
from aiosessions.cli import stored
from aiosessions.cli.screen import Screen, as_json, is_terminal, printable, rows_of
from aiosessions.cli.stored import Stored, is_namespace, opened, owned_storer
from aiosessions.storers.storer import Storer

try:
    import click
except ImportError as _error:
    raise ImportError('this command needs click: pip install "aiosessions[cli]"') from _error

__all__ = ["run"]

_Ask = Callable[[Storer, Screen], Coroutine[Any, Any, int]]  # Any: what a coroutine never gives or takes
_DONE, _NOT_THERE, _WRONG, _FAILED = 0, 1, 2, 3
_TOP = 10
_SOON = 3600.0


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: with the command's own name in front.

    Returns:
        0: done, an empty list too. 1: a user or handle is not there, a problem was found, or somebody said no.
        2: wrong arguments, the storer cannot do that, or nothing can be printed. 3: the backend failed.
    """
    try:
        code: int = _commands.main(list(arguments), "aiosessions", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return _WRONG
    except click.Abort:
        print("aiosessions: stopped", file=sys.stderr)
        return _NOT_THERE
    except (ConfigError, UnsupportedError) as error:
        print(f"aiosessions {arguments[0]}: {printable(str(error))}", file=sys.stderr)
        return _WRONG
    except StorerError as error:
        print(f"aiosessions {arguments[0]}: {printable(str(error))}", file=sys.stderr)
        return _FAILED
    except OSError as error:  # standard output; of a backend it is a StorerError
        print(f"aiosessions {arguments[0]}: {error}", file=sys.stderr)
        return _WRONG
    return code


class _Command(click.Command):
    """One handle in 64 begins with "-": what is no option is an argument."""

    ignore_unknown_options = True
    allow_extra_args = True

    def invoke(self, ctx: click.Context) -> Any:  # Any: the exit code, as click passes it on
        if ctx.args:  # not shown: it may be a token, or a URL with a password
            raise click.UsageError("there is an argument too many, or an option that there is not", ctx)
        return super().invoke(ctx)


class _Group(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:  # not shown, as above
            raise click.UsageError(f"there is no such command: give {', '.join(self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Group)
def _commands() -> None:
    """Look after the sessions in a storer."""


@_commands.group(cls=_Group)
def users() -> None:
    """The sessions of one user."""


@_commands.group(cls=_Group)
def sessions() -> None:
    """All sessions, or one, by its handle."""


_STORE = click.option(
    "--store",
    "url",
    envvar="AIOSESSIONS_STORE",
    show_envvar=True,
    required=True,
    metavar="URL",
    help="The storer, as storer_from_url takes it. A password is better kept in AIOSESSIONS_STORE: arguments are seen "
    "by everybody on the machine.",
)


def _namespace(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    if given is not None and not is_namespace(given):  # "a:b:" would stand for the sessions b of a
        raise click.BadParameter("a namespace is at most 64 letters, digits, '.', '_', '-' and '/'")
    return given


_NAMESPACE = click.option("--namespace", metavar="NAME", callback=_namespace, help="Of the stores; without it: all.")
_JSON = click.option("--json", "is_json", is_flag=True, help="One JSON document on standard output.")
_VALUE = click.option("--value", "with_value", is_flag=True, help="Show the value, too.")
_USER = click.argument("user")


def _handle(_: click.Context, __: click.Parameter, given: str) -> str:
    if not is_handle(given):  # not shown: it may be a token
        raise click.BadParameter("give the 24 characters of a handle; `aiosessions inspect` shows a token's")
    return given


_HANDLE = click.argument("handle", callback=_handle)


def _asked(url: str, is_json: bool, ask: _Ask) -> int:
    """Ask an open storer; the exit code."""
    storer, screen = owned_storer(url), Screen(is_json=is_json)

    async def ask_it() -> int:
        async with opened(storer):
            return await ask(storer, screen)

    return anyio.run(ask_it)


def _ask_whether(listed: Sequence[Stored], screen: Screen) -> None:
    """Ask whether these are to end, on a terminal; what runs in a pipe or at night is taken at its word."""
    if not listed or not is_terminal(sys.stdin):
        return

    for each in listed:
        rows = rows_of(each, with_value=False)
        screen.say("  ".join(f"{label}: {rows[label]}" for label in ("handle", "name", "user", "label", "seen")))
    count = "this session" if len(listed) == 1 else f"these {len(listed)} sessions"
    click.confirm(f"End {count}?", abort=True, err=True)


@users.command("show", cls=_Command)
@_USER
@_STORE
@_NAMESPACE
@_JSON
def users_show(user: str, url: str, namespace: str | None, is_json: bool) -> int:
    """List the live sessions of USER."""

    async def ask(storer: Storer, screen: Screen) -> int:
        listed = await stored.of_user(storer, namespace, user)
        if not listed and is_json:
            screen.answer([])
        if not listed:
            screen.say("this user has no live session")
            return _NOT_THERE
        screen.sessions(listed)
        return _DONE

    return _asked(url, is_json, ask)


@users.command("end", cls=_Command)
@_USER
@_STORE
@_NAMESPACE
@_JSON
def users_end(user: str, url: str, namespace: str | None, is_json: bool) -> int:
    """Log USER out everywhere. Sessions that clients hold (CookieOverseer) are not in a storer."""

    async def ask(storer: Storer, screen: Screen) -> int:
        if is_terminal(sys.stdin):
            _ask_whether(await stored.of_user(storer, namespace, user), screen)
        ended = await stored.end_user(storer, namespace, user)
        return _ended(ended, "this user has no live session", screen)

    return _asked(url, is_json, ask)


def _ended(count: int, otherwise: str, screen: Screen) -> int:
    screen.answer({"ended": count}, f"{count} ended" if count else "")
    if not count:
        screen.say(otherwise)
    return _DONE if count else _NOT_THERE


@sessions.command("list", cls=_Command)
@_STORE
@_NAMESPACE
@_JSON
@_VALUE
def sessions_list(url: str, namespace: str | None, is_json: bool, with_value: bool) -> int:
    """List every live session."""

    async def ask(storer: Storer, screen: Screen) -> int:
        listed = [each async for each in stored.every(storer, namespace)]
        if not listed:
            screen.say("there is no live session")
        if listed or is_json:
            screen.sessions(listed, with_value=with_value)
        return _DONE

    return _asked(url, is_json, ask)


@sessions.command("show", cls=_Command)
@_HANDLE
@_STORE
@_NAMESPACE
@_JSON
@_VALUE
def sessions_show(handle: str, url: str, namespace: str | None, is_json: bool, with_value: bool) -> int:
    """Show the session with this HANDLE, under whatever name."""

    async def ask(storer: Storer, screen: Screen) -> int:
        listed = await stored.by_handle(storer, namespace, handle)
        screen.answer([as_json(each, with_value=with_value) for each in listed])
        if not listed:
            screen.say("there is no live session of this handle")
            return _NOT_THERE
        if not is_json:
            for each in listed:
                screen.rows(rows_of(each, with_value=with_value))
        return _DONE

    return _asked(url, is_json, ask)


@sessions.command("end", cls=_Command)
@_HANDLE
@_STORE
@_NAMESPACE
@_JSON
def sessions_end(handle: str, url: str, namespace: str | None, is_json: bool) -> int:
    """End the session with this HANDLE, under whatever name."""

    async def ask(storer: Storer, screen: Screen) -> int:
        listed = await stored.by_handle(storer, namespace, handle)
        _ask_whether(listed, screen)
        return _ended(await stored.end(storer, listed), "there is no live session of this handle", screen)

    return _asked(url, is_json, ask)


@_commands.command(cls=_Command)
@_STORE
@_JSON
def clean(url: str, is_json: bool) -> int:
    """Remove what expired more than a minute ago, of all namespaces."""

    async def ask(storer: Storer, screen: Screen) -> int:
        cleanable = stored.cleanable(storer)
        with screen.progress("removing what has expired"):
            removed = await cleanable.clean()
        screen.answer({"removed": removed}, f"{removed} expired sessions removed")
        return _DONE

    return _asked(url, is_json, ask)


@_commands.command(cls=_Command)
@_STORE
@_NAMESPACE
@_JSON
def stats(url: str, namespace: str | None, is_json: bool) -> int:
    """Count live sessions: of each name, of each user, ending within the hour; and the oldest."""

    async def ask(storer: Storer, screen: Screen) -> int:
        names, owners = Counter[tuple[str, str]](), Counter[str | None]()
        oldest: Stored | None = None
        soon, until = 0, time.time() + _SOON
        async for each in stored.every(storer, namespace):
            names[each.namespace, each.name] += 1
            owners[each.record.owner] += 1
            soon += each.record.expires_at is not None and each.record.expires_at <= until
            if oldest is None or each.record.created_at < oldest.record.created_at:
                oldest = each
        anonymous = owners.pop(None, 0)
        document: dict[str, object] = {
            "live": names.total(),
            "names": [{"namespace": space, "name": name, "live": live} for (space, name), live in names.most_common()],
            "anonymous": anonymous,
            "users": len(owners),
            "per_user": dict(owners.most_common()),
            "oldest": None if oldest is None else as_json(oldest, with_value=False),
            "ending_within_the_hour": soon,
        }
        screen.answer(document)
        if is_json:
            return _DONE

        first = None if oldest is None else rows_of(oldest, with_value=False)
        screen.rows(
            {
                "live": str(names.total()),
                **{f"  {space}:{name}": str(live) for (space, name), live in names.most_common()},
                "anonymous": str(anonymous),
                "users": str(len(owners)),
                "oldest": "none" if first is None else f"{first['created']}, {first['handle']}",
                "ending within the hour": str(soon),
            }
        )
        if owners:
            top = [[user or "", str(live)] for user, live in owners.most_common(_TOP)]
            screen.table(("users with most sessions", "live"), top)
        return _DONE

    return _asked(url, is_json, ask)


@_commands.command(cls=_Command)
@_STORE
@_JSON
def check(url: str, is_json: bool) -> int:
    """Try the storer: write and read, round trip, eviction, clock. Makes what `open` makes: a missing table."""
    from aiosessions.cli.probe import examine

    storer, screen = owned_storer(url), Screen(is_json=is_json)

    async def ask() -> int:
        findings = [finding async for finding in examine(storer)]
        problems = [finding for finding in findings if finding.is_problem]
        screen.answer(
            {
                "findings": [
                    {"what": each.what, "said": each.said, "is_problem": each.is_problem} for each in findings
                ],
                "problems": len(problems),
            }
        )
        if not is_json:
            lines = [["PROBLEM" if each.is_problem else "ok", each.what, each.said] for each in findings]
            screen.table(("", "what", "found"), lines)
        return _NOT_THERE if problems else _DONE

    return anyio.run(ask)


@_commands.command(cls=_Command)
@click.argument("target", metavar="PACKAGE.MODULE:STORE")
@click.option("--fail-on", type=click.Choice(["weakened"]), help="Exit code 1 if a row is; for CI.")
@_JSON
def audit(target: str, fail_on: str | None, is_json: bool) -> int:
    """Say what standards ask of a store (or of each in a list), and how it is made answers. Asks no backend."""
    from aiosessions.cli.audit import stores_of
    from aiosessions.cli.standards import rows_for

    screen = Screen(is_json=is_json)
    audited = [(repr(store), list(rows_for(store))) for store in stores_of(target)]
    weakened = sum(row.verdict == "weakened" for _, rows in audited for row in rows)
    screen.answer(
        {
            "stores": [{"store": store, "rows": [row._asdict() for row in rows]} for store, rows in audited],
            "weakened": weakened,
        }
    )
    if not is_json:
        for store, rows in audited:
            screen.rows({"store": store})
            screen.table(
                ("verdict", "source", "requirement", "how"),
                [[row.verdict, row.source, row.requirement, row.how] for row in rows],
            )
    return _NOT_THERE if weakened and fail_on else _DONE
