"""Chromium without a window, driven over its DevTools protocol: tabs that fill in forms, and the cookies it keeps."""

import json
import os
import shutil
import signal
import subprocess
from asyncio import Event, Future, get_running_loop
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import websockets

__all__ = ["Chromium", "Site", "Tab", "chromium_path", "running"]

PATIENCE = 20.0  # seconds that anything may take
_READY = "DevToolsActivePort"  # Chromium writes port and path into it
_LOG = "chromium.log"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",  # a container's root has no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--password-store=basic",
    "--ignore-certificate-errors",  # the certificate is made by the test
    "--host-resolver-rules=MAP *.test 127.0.0.1",
    "--remote-debugging-port=0",
)

# What fills in a form and presses its button, as a person would: hidden fields can be given too.
_SUBMIT = """((selector, values) => {
    const form = document.querySelector(selector);
    for (const [name, value] of Object.entries(values)) {
        const field = form.elements[name];
        if (field.type === "checkbox") field.checked = true; else field.value = value;
    }
    form.querySelector("button").click();
})"""

Answer = dict[str, Any]  # Any: whatever the protocol says


def chromium_path() -> str | None:
    """Where the browser is; None: there is none on the PATH."""
    return next((path for path in map(shutil.which, _NAMES) if path), None)


class DevToolsError(Exception):
    """Chromium refused a command, or a script in a page failed."""


class _Connection:
    """Commands and their answers, over one WebSocket; what happens in a tab goes to that tab."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._answers: dict[int, Future[Answer]] = {}
        self._count = 0
        self.tabs: dict[str, Tab] = {}

    async def listen(self) -> None:
        with suppress(websockets.ConnectionClosed):  # a browser that ends does not say good-bye
            async for message in self._socket:
                self._hear(json.loads(message))
        for waiting in self._answers.values():
            waiting.set_exception(DevToolsError("Chromium has gone"))

    def _hear(self, told: Answer) -> None:
        if "id" in told:
            waiting = self._answers.pop(told["id"], None)
            if waiting is not None:
                waiting.set_result(told)
        elif told.get("sessionId") in self.tabs:
            self.tabs[told["sessionId"]].notice(told["method"], told["params"])

    async def ask(self, method: str, tab: str | None = None, **parameters: object) -> Answer:
        self._count += 1
        number = self._count
        answer = self._answers[number] = get_running_loop().create_future()
        command: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if tab is not None:
            command["sessionId"] = tab
        await self._socket.send(json.dumps(command))
        try:
            with anyio.fail_after(PATIENCE):
                told = await answer
        finally:
            self._answers.pop(number, None)
        if "error" in told:
            raise DevToolsError(f"{method}: {told['error']}")
        result: Answer = told["result"]
        return result


class Tab:
    """One tab.

    Args:
        connection: to its browser.
        session: what the protocol calls it.
    """

    def __init__(self, connection: _Connection, session: str) -> None:
        self._connection = connection
        self._session = session
        self._document = ""  # the newest that has loaded
        self._has_loaded = Event()
        connection.tabs[session] = self

    def notice(self, method: str, parameters: Answer) -> None:
        """The browser tells of an event."""
        if method == "Page.lifecycleEvent" and parameters["name"] == "load":
            self._document = parameters["loaderId"]
            self._has_loaded.set()

    async def start(self) -> None:
        """Have the browser tell of what happens, beginning with the empty page that is there."""
        await self.ask("Page.enable")
        await self.ask("Page.setLifecycleEventsEnabled", enabled=True)
        await self._another("")

    async def ask(self, method: str, **parameters: object) -> Answer:
        """One command of the protocol."""
        return await self._connection.ask(method, self._session, **parameters)

    async def go(self, url: str) -> str:
        """Load a page; its text."""
        document = self._document
        told = await self.ask("Page.navigate", url=url)
        if "errorText" in told:
            raise DevToolsError(f"{url}: {told['errorText']}")
        await self._another(document)
        return await self.text()

    async def submit(self, form: str, **values: str) -> str:
        """Fill in a form and press its button; the text of the page that follows.

        Args:
            form: a CSS selector.
            values: what is written into its fields; a checkbox is ticked.
        """
        return await self.leave(f"{_SUBMIT}({json.dumps(form)}, {json.dumps(values)})")

    async def leave(self, script: str) -> str:
        """Run a script that makes the tab load a page; the text of that page."""
        document = self._document
        await self.run(script)
        await self._another(document)
        return await self.text()

    async def press_tab(self) -> None:
        """Go on to what the keyboard reaches next."""
        await self.ask("Input.dispatchKeyEvent", type="keyDown", key="Tab", windowsVirtualKeyCode=9)

    async def press_enter(self) -> str:
        """Do what has the focus; the text of the page that follows."""
        document = self._document
        await self.ask("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r", windowsVirtualKeyCode=13)
        await self._another(document)
        return await self.text()

    async def text(self) -> str:
        """What a person reads."""
        text: str = await self.run("document.body.innerText")
        return text

    async def run(self, script: str) -> Any:  # Any: what the script's value is
        """Run a script in the page."""
        told = await self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in told:
            raise DevToolsError(told["exceptionDetails"]["exception"]["description"])
        return told["result"].get("value")

    async def _another(self, document: str) -> None:
        with anyio.fail_after(PATIENCE):
            while self._document == document:
                self._has_loaded.clear()
                await self._has_loaded.wait()


class Site:
    """A profile: tabs that share their cookies.

    Args:
        connection: to its browser.
        context: what the protocol calls it; None: the profile on disk.
    """

    def __init__(self, connection: _Connection, context: str | None) -> None:
        self._connection = connection
        self._context: dict[str, str] = {} if context is None else {"browserContextId": context}

    async def tab(self, url: str = "about:blank") -> Tab:
        """A new tab, with a page in it."""
        ask = self._connection.ask
        target = await ask("Target.createTarget", url="about:blank", **self._context)
        attached = await ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = Tab(self._connection, attached["sessionId"])
        await tab.start()
        if url != "about:blank":
            await tab.go(url)
        return tab

    async def cookies(self) -> dict[str, Answer]:
        """Every cookie of the profile, by its name, with all that the browser knows of it."""
        told = await self._connection.ask("Storage.getCookies", **self._context)
        return {cookie["name"]: cookie for cookie in told["cookies"]}

    async def close(self) -> None:
        """Close its tabs and forget it: a private one's end."""
        await self._connection.ask("Target.disposeBrowserContext", **self._context)


class Chromium:
    """A browser that runs.

    Args:
        connection: to it.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def profile(self) -> Site:
        """The profile on disk, which the next browser finds again."""
        return Site(self._connection, None)

    async def private(self) -> Site:
        """A profile of its own, until it is closed."""
        told = await self._connection.ask("Target.createBrowserContext")
        return Site(self._connection, told["browserContextId"])


@asynccontextmanager
async def running(executable: str, folder: Path) -> AsyncGenerator[Chromium]:
    """Chromium, from here to the end of the block, where a person would close its window.

    Args:
        executable: see `chromium_path`.
        folder: the profile's; it may be an earlier browser's.
    """
    process = _start(executable, folder)
    try:
        with anyio.fail_after(PATIENCE):
            while (address := _address(process, folder)) is None:  # noqa: ASYNC110  # a file is all there is to watch
                await anyio.sleep(0.02)
        async with (
            websockets.connect(address, max_size=None, compression=None) as socket,
            anyio.create_task_group() as tasks,
        ):
            connection = _Connection(socket)
            tasks.start_soon(connection.listen)
            yield Chromium(connection)
            await connection.ask("Browser.close")
        await anyio.to_thread.run_sync(process.wait, PATIENCE)  # then its cookies are on disk
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(executable: str, folder: Path) -> subprocess.Popen[bytes]:
    (folder / _READY).unlink(missing_ok=True)
    with (folder / _LOG).open("ab") as log:
        return subprocess.Popen(
            [executable, *_OPTIONS, f"--user-data-dir={folder}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _address(process: subprocess.Popen[bytes], folder: Path) -> str | None:
    """Where it listens, once it does."""
    if process.poll() is not None:
        raise DevToolsError(f"Chromium ended at once: {(folder / _LOG).read_text(errors='replace')[-500:]}")

    ready = folder / _READY
    port, _, path = ready.read_text().partition("\n") if ready.exists() else ("", "", "")
    return f"ws://127.0.0.1:{port}{path}" if path else None
