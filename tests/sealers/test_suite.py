"""The suite itself: it finds what is wrong with a sealer, and says so."""

import base64
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from aiosessions.sealers.sealer import Claims, Sealer
from aiosessions.testing.suites_sealer import SealerSuite

NOW = 1_800_000_000.0


class Believing:
    """A sealer that believes every token: no key, no name, no expiry."""

    needs_json = False

    def seal(self, claims: Claims, *, name: str) -> str:
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(claims)).decode()

    def open(self, token: str, *, name: str, now: float) -> Claims | None:
        try:
            return msgspec.msgpack.decode(base64.urlsafe_b64decode(token), type=Claims)
        except (ValueError, msgspec.MsgspecError):
            return None


class BelievingSuite(SealerSuite):
    """How a third party would use the suite."""

    def make_sealer(self, keys: Sequence[Any]) -> Sealer:  # Any: as the suite says
        return Believing()


SUITE, SEALER = BelievingSuite(), Believing()
TOKEN = SEALER.seal(Claims(b"{}", False, "id", NOW, NOW + 3600, None, b""), name="shop:app")

FOUND: dict[str, tuple[Callable[[], None], str]] = {
    "changes": (lambda: SUITE.test_a_changed_character_is_refused(SEALER, TOKEN), "accepted with character"),
    "cuts": (lambda: SUITE.test_a_token_with_more_is_refused(SEALER, TOKEN, "\n"), "accepted with"),
    "names": (
        lambda: SUITE.test_a_token_is_worthless_under_another_name_or_namespace(SEALER, TOKEN, "app"),
        "sealed for 'shop:app' and accepted for 'app'",
    ),
    "expiry": (lambda: SUITE.test_a_token_ends_at_its_expiry(SEALER, TOKEN), "after its expiry"),
    "equality": (lambda: SUITE.test_equal_claims_seal_to_different_tokens(SEALER), "100 equal claims gave 1 tokens"),
    "keys": (
        lambda: SUITE.test_a_new_key_seals_and_the_old_one_still_opens("key", TOKEN),
        "an old key opens what a new one sealed",
    ),
}


@pytest.mark.parametrize(("run", "message"), FOUND.values(), ids=FOUND)
def test_a_sealer_that_believes_everything_is_found_out(run: Callable[[], None], message: str) -> None:
    """F6 to F9: each by the test that is about it, with a message one can act on."""
    with pytest.raises(AssertionError, match=message):
        run()


def test_a_suite_without_a_sealer_says_what_is_missing() -> None:
    """F6: the first thing that somebody who inherits it sees."""
    with pytest.raises(NotImplementedError, match=r"make_sealer\(self, keys\)"):
        SealerSuite().make_sealer([])


def test_a_sealer_without_a_next_version_is_a_skip() -> None:
    """F8: with its reason."""
    with pytest.raises(pytest.skip.Exception, match="make_next_version"):
        SUITE.test_a_token_of_another_format_version_is_refused("key", SEALER, TOKEN)
