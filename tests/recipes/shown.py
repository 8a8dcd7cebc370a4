"""What a page of docs/ shows, run as it stands there, and visited."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aiosessions.testing import Browser, Response

__all__ = ["DOCS", "cookies", "log_in_and_out", "page_of", "run"]

DOCS = Path(__file__).parent.parent.parent / "docs"


def page_of(name: str) -> str:
    """The text of docs/*name*.md."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # Any: what the page's block defines
    """The one block of a page, as a module that can be imported while the test runs."""
    [block] = re.findall(r"^```python\n(.*?)^```", page_of(name), re.DOTALL | re.MULTILINE)
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    exec(compile(block, f"{name}.md", "exec"), module.__dict__)  # the page's own
    return module


def cookies(browser: Browser) -> str:
    """What it would send now."""
    return browser.cookies.header(f"{browser.base_url}/")


async def log_in_and_out(browser: Browser, page: str, **form: str) -> Response:
    """From an anonymous session through /login and *page*, which is for users, to /logout; gives what *page* answered.

    The login changes the token, and after each step the tokens from before open nothing.
    """
    stranger, planted = browser.another(), cookies(browser)
    assert planted
    assert (await browser.get(page)).status == 401
    assert (await browser.post("/login", data={**form, "password": "coffee"})).status == 403
    assert (await browser.get(page)).status == 401

    assert (await browser.post("/login", data={**form, "password": "tea for two"})).status < 400
    token, answer = cookies(browser), await browser.get(page)
    assert answer.status == 200
    assert token != planted
    assert (await stranger.get(page, headers={"Cookie": planted})).status == 401
    assert (await stranger.get(page, headers={"Cookie": token})).status == 200

    assert (await browser.post("/logout")).status < 400
    assert cookies(browser) == ""
    assert (await browser.get(page)).status == 401
    assert (await stranger.get(page, headers={"Cookie": token})).status == 401
    return answer
