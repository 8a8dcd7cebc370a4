"""examples/telemetry: the shop is visited and scraped as Prometheus would, and the dashboard asks for what is there."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import free_port, until

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "telemetry"
DASHBOARD: dict[str, Any] = json.loads((EXAMPLE / "dashboard.json").read_text(encoding="utf-8"))
EXPRESSIONS: list[str] = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
READS = re.compile(r'^aiosessions_storer_operation_duration_seconds_count\{.*"read".*\} (\S+)$', re.MULTILINE)


@pytest.fixture
def shop() -> Iterator[httpx.Client]:
    """A client of the shop, which is served on loopback."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "examples.telemetry.shop:app", "--port", str(port)]
    environment = {**os.environ, "AIOSESSIONS_DEBUG": "1"}
    with (
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        try:
            until(lambda: answers(client), "an answer of the shop")
            yield client
        finally:
            server.terminate()
            _, said = server.communicate(timeout=30)
    assert "Traceback" not in said


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/metrics").status_code == 200
    except httpx.TransportError:
        return False


def overlapping(client: httpx.Client, path: str) -> int:
    """Two tabs send something else each; the status of the one that looks first and is written last."""

    def looks() -> float:
        return sum(map(float, READS.findall(client.get("/metrics").text)))

    before = looks()

    def body() -> Iterator[bytes]:
        until(lambda: looks() > before, "the first tab's look")
        assert client.put(path, content=b"theirs").status_code == 200
        yield b"ours"

    return client.put(path, content=body()).status_code


def test_what_the_dashboard_asks_for_is_what_prometheus_gets(shop: httpx.Client) -> None:
    assert shop.post("/cart/tea").json() == ["tea"]
    assert overlapping(shop, "/note") == 200
    assert overlapping(shop, "/address") == 409
    assert shop.get("/").json() == ["tea"]
    assert httpx.get(f"{shop.base_url}/", headers={"Cookie": "shop=forged"}, trust_env=False).json() == []

    samples = re.findall(r"^[^#].*$", shop.get("/metrics").text, re.MULTILINE)
    there = {word for sample in samples for word in re.findall(r"\baiosessions_\w+", sample)}
    asked = {word for expression in EXPRESSIONS for word in re.findall(r"\baiosessions_\w+", expression)}
    assert len({name for expression in EXPRESSIONS for name in re.findall(r"(\w+)\{", expression)}) == 6
    assert asked <= there, "a metric or a label that the scrape has not"


def test_each_panel_has_an_id_and_a_place_of_its_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    for panel in panels:
        assert panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_prometheus_understands_its_configuration_and_what_the_dashboard_asks(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here, which comes with Prometheus")

    plain = [each.replace("$__rate_interval", "1m").replace("$name", ".*") for each in EXPRESSIONS]
    rules = [{"record": f"rule:{number}", "expr": expression} for number, expression in enumerate(plain)]
    (tmp_path / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8"
    )
    for what in (["rules", str(tmp_path / "rules.yml")], ["config", str(EXAMPLE / "prometheus.yml")]):
        done = subprocess.run([promtool, "check", *what], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
