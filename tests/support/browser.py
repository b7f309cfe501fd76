"""ComfyUI's page in a headless Chromium, over the Chrome DevTools protocol, for the tests marked `comfy`.

One browser and one tab serve all tests: loading the page costs more than most tests do in it. A test loads its own
graph there; one that fails closes the tab, and the next test opens another.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAIT_S = 300  # at most, on a slow and busy machine
UNTIL_S = 30  # at most, until the page shows what is expected
SETTLE_S = 0.7  # more than the timeline takes to notice what others changed, and than a double click
SIZE = (1300, 1000)  # of the page
READY = "!!(window.app?.graph && window.LiteGraph?.registered_node_types['PortraitTalkRenderPortrait'])"
# no template browser and no list of missing weights over the canvas, no workflow of the last visit
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Workflow.Persist": False,
}
CLOSE_DIALOGS = "document.querySelectorAll('.p-dialog-close-button').forEach(button => button.click())"
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-port=0",
           "--autoplay-policy=no-user-gesture-required")  # fmt: skip
# The page draws its canvas in every frame of the screen, without a graphics card: ten a second are enough.
FEWER_FRAMES = """(() => {
  const next = window.requestAnimationFrame.bind(window), waiting = new Map();
  let last = 0;
  const draw = now => { const due = [...waiting.values()]; waiting.clear(); due.forEach(act => act(now)); };
  window.requestAnimationFrame = act => {
    waiting.set(++last, act);
    if (waiting.size === 1) setTimeout(() => next(draw), 100);
    return last;
  };
  window.cancelAnimationFrame = number => void waiting.delete(number);
})()"""
COLLECT_END = """(async () => {
  window.ended = null;
  app.api.addEventListener('execution_success', () => window.ended = 'success', { once: true });
  app.api.addEventListener('execution_error', e => window.ended = e.detail.exception_message, { once: true });
  await app.queuePrompt(0);
})()"""


def shipped(name: str, as_form: bool = False) -> dict:
    """A workflow of this pack; its graph is shown, not its form."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    if not as_form:
        workflow["extra"].pop("linearMode", None)
    return workflow


def of_this_pack(problems: list[str]) -> list[str]:
    """The messages of the page's console that are about this pack."""
    return [text for text in problems if "portraittalk" in text.lower() or "pt_under_test" in text]


def chromium() -> str:
    """The browser's executable; without one the test is skipped, with a warning."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not executable:
        reason = "NO CHROMIUM: the page is NOT TESTED. apt-get install chromium."
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return executable


class Tab:
    """A page with a graph in it, and a mouse."""

    def __init__(self, ws) -> None:
        self.ws, self.number, self.answers, self.problems = ws, 0, {}, []
        self.loaded, self.newer = 0, False
        self.listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for message in self.ws:
            event = json.loads(message.data)
            if "id" in event:
                self.answers.pop(event["id"]).set_result(event)
            elif event["method"] == "Runtime.exceptionThrown" or event["params"].get("type") == "error":
                self.problems.append(json.dumps(event["params"]))

    async def call(self, method: str, **params) -> dict:
        self.number += 1
        answer = asyncio.get_running_loop().create_future()
        self.answers[self.number] = answer
        await self.ws.send_json({"id": self.number, "method": method, "params": params})
        return (await asyncio.wait_for(answer, WAIT_S)).get("result", {})

    async def evaluate(self, script: str):
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_for(self, condition: str) -> None:
        end = time.monotonic() + WAIT_S
        while not await self.evaluate(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            await asyncio.sleep(0.2)

    async def until(self, read: Callable[[], Coroutine], expected) -> None:
        """Wait until what is read is what is expected: the page needs longer on a slower machine."""
        end = time.monotonic() + UNTIL_S
        while (value := await read()) != expected:
            assert time.monotonic() < end, f"{value!r}, and never {expected!r}"
            await asyncio.sleep(0.1)

    async def open(self, url: str) -> None:
        """Open ComfyUI's page."""
        for domain in ("Page", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call("Page.addScriptToEvaluateOnNewDocument", source=FEWER_FRAMES)
        await self.call("Page.navigate", url=url)
        await self.wait_for(READY)

    async def resize(self, size: tuple[int, int]) -> None:
        shape = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **shape)

    async def render_nodes(self, newer: bool) -> None:
        """Choose one of the page's two renderings of nodes."""
        if newer != self.newer:
            setting = f"app.extensionManager.setting.set('Comfy.VueNodes.Enabled', {json.dumps(newer)})"
            await self.evaluate(f"{setting}.catch(() => null)")
        self.newer = newer

    async def load(self, workflow: dict) -> None:
        """Show a workflow; a page that has just been opened may still put its own first one in its place."""
        self.loaded += 1
        marked = {**workflow, "extra": {**workflow.get("extra", {}), "loaded_by_test": self.loaded}}
        await self.evaluate(f"app.nodeOutputs = {{}}; {CLOSE_DIALOGS}")
        for _ in range(5):
            await self.evaluate(f"app.loadGraphData({json.dumps(marked)}).then(() => null)")
            await self.evaluate("app.canvas.ds.scale = 1; app.canvas.ds.offset = [80, 60]; app.canvas.draw(true, true)")
            await asyncio.sleep(1.5 if self.loaded == 1 else SETTLE_S)
            if await self.evaluate("app.graph.extra?.loaded_by_test ?? 0") == self.loaded:
                return
        raise AssertionError("the page does not keep the workflow that was loaded")

    async def run(self) -> str:
        """Queue the graph and wait for its end: "success", or the error's text."""
        await self.evaluate(COLLECT_END)
        await self.wait_for("window.ended !== null")
        return await self.evaluate("window.ended")

    async def prompt(self) -> dict[str, dict]:
        """The graph in API format, by the nodes' numbers."""
        return json.loads(await self.evaluate("app.graphToPrompt().then(p => JSON.stringify(p.output))"))

    async def inputs(self) -> dict[str, dict]:
        """Inputs that the graph's nodes are run with, by the kind of node."""
        return {node["class_type"]: node["inputs"] for node in (await self.prompt()).values()}

    async def mouse(self, kind: str, at: tuple[float, float], **more) -> None:
        await self.call("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **more)
        await asyncio.sleep(0.04)

    async def click(self, at: tuple[float, float], button: str = "left", times: int = 1) -> None:
        await asyncio.sleep(SETTLE_S)
        await self.mouse("mouseMoved", at)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                await self.mouse(kind, at, button=button, clickCount=count)

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        await asyncio.sleep(SETTLE_S)
        await self.mouse("mouseMoved", start)
        await self.mouse("mousePressed", start, button="left", buttons=1, clickCount=1)
        for step in range(1, 6):
            between = tuple(a + (b - a) * step / 5 for a, b in zip(start, end, strict=True))
            await self.mouse("mouseMoved", between, button="left", buttons=1)
        await self.mouse("mouseReleased", end, button="left", clickCount=1)

    async def key(self, name: str, ctrl: bool = False) -> None:
        what = {"key": name, "code": f"Key{name.upper()}" if len(name) == 1 else name, "modifiers": 2 * ctrl}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, **what)
        await asyncio.sleep(0.1)

    async def picture(self) -> bytes:
        """A screenshot, PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])

    async def shoot(self, name: str) -> None:
        """Keep a screenshot in the folder PORTRAITTALK_SCREENSHOTS, if that is set."""
        folder = os.environ.get("PORTRAITTALK_SCREENSHOTS")
        if folder:
            (Path(folder) / f"{name}.png").write_bytes(await self.picture())


class Browser:
    """A Chromium without a window; `visit` does something on ComfyUI's page."""

    def __init__(self, profile: Path, url: str) -> None:
        self.url, self.tab, self.session, self.loop = url, None, None, asyncio.new_event_loop()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([chromium(), *OPTIONS, f"--user-data-dir={profile}"], **quiet)
        found, end = profile / "DevToolsActivePort", time.monotonic() + WAIT_S
        while not found.exists():
            if time.monotonic() > end:
                self.close()
                raise AssertionError("chromium did not start")
            time.sleep(0.1)
        self.address = f"http://127.0.0.1:{int(found.read_text().split()[0])}"

    def visit(
        self, act: Callable[[Tab], Coroutine], newer: bool = False, size: tuple[int, int] = SIZE, keep: bool = True
    ) -> None:
        """Do something on the page; it may write no error about this pack to its console.

        Args:
            act: what to do.
            newer: whether nodes are drawn by Vue.
            size: of the page in pixels.
            keep: whether the next visit may have this tab.
        """
        self.loop.run_until_complete(self._visit(act, newer, size, keep))

    async def _visit(self, act: Callable[[Tab], Coroutine], newer: bool, size: tuple[int, int], keep: bool) -> None:
        tab, self.tab = self.tab or await self._open(), None
        try:
            tab.problems.clear()
            await tab.resize(size)
            await tab.render_nodes(newer)
            await act(tab)
            assert not of_this_pack(tab.problems)
            self.tab = tab if keep else None
        finally:
            if self.tab is None:
                await self._close(tab)

    async def _open(self) -> Tab:
        import aiohttp

        self.session = self.session or aiohttp.ClientSession()
        async with self.session.put(f"{self.address}/json/new?about:blank") as answer:
            target = await answer.json(content_type=None)
        tab = Tab(await self.session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0))
        tab.target = target["id"]
        await tab.resize(SIZE)
        await tab.open(self.url)
        tab.newer = bool(await tab.evaluate("!!LiteGraph.vueNodesMode"))
        return tab

    async def _close(self, tab: Tab) -> None:
        """Close a tab: one that is left open goes on drawing."""
        tab.listening.cancel()
        async with self.session.get(f"{self.address}/json/close/{tab.target}"):
            pass

    def close(self) -> None:
        """End the browser."""
        if self.session is not None:
            self.loop.run_until_complete(self.session.close())
        self.loop.close()
        self.process.terminate()
        self.process.wait(60)
