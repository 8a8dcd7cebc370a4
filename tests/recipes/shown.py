"""What a page of docs/ shows, run as it stands there, and visited."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aiosessions.testing import Browser

__all__ = ["DOCS", "cookies", "run"]

DOCS = Path(__file__).parent.parent.parent / "docs"


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # Any: what the page's block defines
    """The one block of a page, as a module that can be imported while the test runs."""
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    module = ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    exec(compile(block, f"{name}.md", "exec"), module.__dict__)  # the page's own
    return module


def cookies(browser: Browser) -> str:
    """What it would send now."""
    return browser.cookies.header(f"{browser.base_url}/")
