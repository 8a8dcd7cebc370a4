"""What the README and docs/ show is executed."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aiosessions.testing import Browser

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
README = PAGES["README.md"]
BLOCKS = [
    pytest.param(block, id=f"{page}:{number}")
    for page, text in PAGES.items()
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE), 1)
]

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


async def visit(browser: Browser, block: str) -> None:
    """Do what the application of a block is for."""
    if "/cart/" in block:
        assert (await browser.post("/cart/tea")).status == 401
        assert (await browser.post("/login/ann")).json() == "Hello ann"
        assert (await browser.post("/cart/tea")).json() == ["tea"]
        assert (await browser.post("/cart/milk")).json() == ["tea", "milk"]
    else:
        assert (await browser.get("/")).status == 401
        assert "Hello ann" in (await browser.post("/login")).text
        for visits in (2, 3):  # the first was counted before the login
            assert (await browser.get("/")).json() == {"user": "ann", "visits": visits}


@pytest.mark.parametrize("block", BLOCKS)
async def test_a_block_runs_and_does_what_it_says(block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Blocks that make an application are visited; one that has a test is tested."""
    monkeypatch.chdir(tmp_path)
    try:
        namespace = run(block, monkeypatch)
    except ImportError as error:
        if (error.name or "aiosessions").startswith("aiosessions") and "aiosessions[" not in str(error):
            raise
        pytest.skip(f"not installed here: {error}")
    if "test_hello" in namespace:
        await namespace["test_hello"]()
    elif "token_for" in namespace:
        token = await namespace["token_for"]("ann")
        for calls in (1, 2):
            body, headers = await namespace["call"]([("Cookie", f"__Host-app={token}")])
            assert body == f"ann {calls}"
            assert headers == [("Vary", "Cookie")]
        body, headers = await namespace["call"]([])
        assert body == "None 1"
        assert [name for name, _ in headers] == ["Set-Cookie", "Cache-Control", "Vary"]
    elif "app" in namespace:
        async with Browser(namespace["app"]) as browser:
            await visit(browser, block)


@pytest.mark.parametrize("title", ["Try it", "Test it"])
def test_each_command_is_one_line(title: str) -> None:
    """Exactly one fenced `sh` block of one line in each of the two sections."""
    section = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    assert blocks[0].count("\n") == 1


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Relative links name files that are there."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        assert ((ROOT / page).parent / target).exists(), target
