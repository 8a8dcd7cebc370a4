"""What the README shows is executed."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aiosessions.testing import Browser

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Frameworks decide; asyncio is what all of them run on."""
    name: str = request.param
    return name


def run(block: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Execute a block as a module of its own; frameworks look annotations up there."""
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    exec(compile(block, "README.md", "exec"), module.__dict__)  # the README's own
    return module.__dict__


@pytest.mark.parametrize("index", range(len(BLOCKS)))
async def test_a_block_runs_and_does_what_it_says(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that make an application are visited; one that has a test is tested."""
    try:
        namespace = run(BLOCKS[index], monkeypatch)
    except ImportError as error:
        pytest.skip(f"not installed here: {error.name}")
    if "test_hello" in namespace:
        await namespace["test_hello"]()
    elif "add" in namespace:
        async with Browser(namespace["app"]) as browser:
            assert (await browser.post("/cart/tea")).json() == ["tea"]
            assert (await browser.post("/cart/milk")).json() == ["tea", "milk"]
    elif "app" in namespace:
        async with Browser(namespace["app"]) as browser:
            for visits in (1, 2):
                assert (await browser.get("/")).json() == {"visits": visits}


@pytest.mark.parametrize("title", ["Try it", "Test it"])
def test_each_command_is_one_line(title: str) -> None:
    """Exactly one fenced `sh` block of one line in each of the two sections."""
    section = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    assert blocks[0].count("\n") == 1


def test_links_lead_somewhere() -> None:
    """Relative links name files that are there."""
    root = Path(__file__).parent.parent
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (root / target).exists(), target
