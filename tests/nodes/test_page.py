"""ComfyUI's own page in a real browser: a shipped workflow is loaded, run and inspected."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.comfy

ROOT = Path(__file__).parents[2]
WAIT_S = 90
READY = "!!(window.app?.graph && window.LiteGraph?.registered_node_types['PortraitTalkRenderPortrait'])"
SIZE, WIDE = (1700, 1250), (2900, 1350)
OVERLAPS = """(() => {
  const boxes = app.graph._nodes.map(n => [n.type, ...n.getBounding()]);
  const meet = (a, b) => a[1] < b[1] + b[3] && b[1] < a[1] + a[3] && a[2] < b[2] + b[4] && b[2] < a[2] + a[4];
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => meet(a, b)).map(b => `${a[0]} covers ${b[0]}`));
})()"""
REACH = "Math.max(...app.graph._nodes.map(n => n.getBounding()).map(b => b[0] + b[2]))"  # all of the graph is seen
UNKNOWN = "app.graph._nodes.map(n => n.type).filter(type => !LiteGraph.registered_node_types[type])"
OUTSIDE = """(() => {
  const frames = app.graph._groups.map(g => [...g._bounding]), last = (b, i) => b[i] + b[i + 2];
  const holds = (f, b) => f[0] <= b[0] && f[1] <= b[1] && last(b, 0) <= last(f, 0) && last(b, 1) <= last(f, 1);
  const nodes = app.graph._nodes.filter(n => n.type != 'MarkdownNote');
  return nodes.filter(n => !frames.some(f => holds(f, [...n.getBounding()]))).map(n => n.type);
})()"""


def shipped(name: str) -> dict:
    """A workflow of this pack; the page shows its graph, though it might open it as a form."""
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    workflow["extra"].pop("linearMode", None)
    return workflow


class Page:
    """A browser tab over the Chrome DevTools protocol."""

    def __init__(self, ws) -> None:
        self.ws, self.number, self.answers, self.problems = ws, 0, {}, []

    async def listen(self) -> None:
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


def _chromium() -> str:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not executable:
        reason = "NO CHROMIUM: the page is NOT TESTED. apt-get install chromium."
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return executable


async def _load(page: Page, workflow: dict) -> None:
    """Show a workflow; on a busy machine the page may still put its own first one in its place."""
    kinds = sorted(node["type"] for node in workflow["nodes"])
    for _ in range(5):
        await page.evaluate(f"app.loadGraphData({json.dumps(workflow)}).then(() => null)")
        await asyncio.sleep(1.5)
        if sorted(await page.evaluate("app.graph._nodes.map(node => node.type)")) == kinds:
            return
    raise AssertionError("the page does not keep the workflow that was loaded")


async def _drive(
    comfy, profile: Path, workflow: dict, picture: Path, queue: bool, size: tuple[int, int]
) -> tuple[dict, list[str]]:
    import aiohttp

    port = int((profile / "DevToolsActivePort").read_text().split()[0])
    async with aiohttp.ClientSession() as session:
        async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
            target = await answer.json(content_type=None)
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as ws:
            page = Page(ws)
            listening = asyncio.create_task(page.listen())
            for domain in ("Page", "Runtime"):
                await page.call(f"{domain}.enable")
            width, height = size
            await page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            await page.call("Page.navigate", url=comfy.url)
            await page.wait_for(READY)
            await page.evaluate(
                "(async () => { window.ended = null;"
                "app.api.addEventListener('execution_success', () => window.ended = 'success');"
                "app.api.addEventListener('execution_error', e => window.ended = e.detail.exception_message);"
                "})()"
            )
            await _load(page, workflow)
            if queue:
                await page.evaluate("app.queuePrompt(0)")
                await page.wait_for("window.ended !== null")
            ended = await page.evaluate("window.ended")
            prompt = await page.evaluate("(async () => JSON.stringify((await app.graphToPrompt()).output))()")
            # a fresh profile opens the template browser over the canvas
            await page.evaluate("document.querySelectorAll('.p-dialog-close-button').forEach(b => b.click())")
            await page.evaluate(
                f"app.canvas.ds.scale = Math.min(0.92, {width} / ({REACH} + 60)); app.canvas.ds.offset = [40, 80];"
                "app.canvas.draw(true, true)"
            )
            await asyncio.sleep(2.5)
            shot = await page.call("Page.captureScreenshot", format="png")
            picture.write_bytes(base64.b64decode(shot["data"]))
            node_outputs = await page.evaluate("JSON.stringify(app.nodeOutputs)")
            overlaps, unknown, outside = [await page.evaluate(script) for script in (OVERLAPS, UNKNOWN, OUTSIDE)]
            problems = list(page.problems)
            listening.cancel()
    state = {"ended": ended, "shown": json.loads(node_outputs), "overlaps": overlaps, "prompt": json.loads(prompt)}
    return state | {"unknown": unknown, "outside": outside}, problems


def _page_state(
    comfy, workflow: dict, tmp_path: Path, picture: Path, queue: bool = True, size=SIZE
) -> tuple[dict, list[str]]:
    """State of the page with a workflow loaded, in a fresh browser."""
    profile = tmp_path / "profile"
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-port=0"]
    browser = subprocess.Popen(
        [_chromium(), *options, f"--user-data-dir={profile}", "--autoplay-policy=no-user-gesture-required"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 30
        while not (profile / "DevToolsActivePort").exists():
            assert time.monotonic() < end, "chromium did not start"
            time.sleep(0.1)
        return asyncio.run(_drive(comfy, profile, workflow, picture, queue, size))
    finally:
        browser.terminate()
        browser.wait(10)


@pytest.mark.parametrize(("name", "denoise"), [("identity_portrait", 0.45), ("talking_portrait", 0.6)])
def test_page_shows_what_needs_weights_as_it_was_made(comfy, tmp_path, name, denoise):
    """Their weights are not there, so they are not run; every widget gets its own value, and no node covers another."""
    workflow = shipped(name)
    picture = Path(os.environ.get("PORTRAITTALK_SCREENSHOTS", tmp_path)) / f"{name}.png"
    result, problems = _page_state(comfy, workflow, tmp_path, picture, queue=False)
    kinds = {node["class_type"]: node["inputs"] for node in result["prompt"].values()}
    sampler = kinds["PortraitTalkIdentityNetSampler"]
    expected = {"steps": 20, "cfg": 3.5, "sampler_name": "euler", "scheduler": "normal", "denoise": denoise}
    expected |= {"identity_strength": 0.8, "width": 512, "height": 512, "keep_frames": "auto", "start_percent": 0}
    expected |= {"end_percent": 1, "combine": "auto", "layer_weights": "", "batch_size": 0, "fps": 25, "crf": 16}
    assert {key: sampler[key] for key in expected} == expected
    assert all(isinstance(sampler[wire], list) for wire in ("model", "vae", "positive", "landmarks", "audio"))
    adapter = kinds["PortraitTalkLoadIdentityAdapter"]
    assert (adapter["lora"], adapter["lora_strength"], adapter["layout"]) == ("of the adapter", 0.8, "auto")
    assert kinds["PortraitTalkLoadFaceEmbedding"]["face_index"] == 0
    if name == "talking_portrait":
        control = {"motion_module": "v3_sd15_mm.ckpt", "strength": 1, "mouth_weight": 1.5, "mode": "chunked"}
        control |= {"window": 16, "overlap": 4, "style": "mediapipe_face"}
        control_node = kinds["PortraitTalkAnimateNetControl"]
        assert {key: control_node[key] for key in control} == control
        assert isinstance(control_node["control_net"], list) and isinstance(sampler["control"], list)
    assert result["overlaps"] == []
    assert not [problem for problem in problems if "portraittalk" in problem.lower() or "pt_under_test" in problem]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("long_speech", {"steps": 6, "cfg": 1, "sampler_name": "lcm", "scheduler": "sgm_uniform", "denoise": 0.5}),
        ("dub_a_video", {"steps": 20, "cfg": 3.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.65}),
    ],
)
def test_page_opens_the_workflows_of_whole_videos(comfy, tmp_path, name, expected):
    """No node is missing, none covers another, each lies in a named group, and every widget has its own value."""
    workflow = shipped(name)
    picture = Path(os.environ.get("PORTRAITTALK_SCREENSHOTS", tmp_path)) / f"{name}.png"
    result, problems = _page_state(comfy, workflow, tmp_path, picture, queue=False, size=WIDE)
    assert (result["unknown"], result["overlaps"], result["outside"]) == ([], [], [])
    assert all(group["title"] for group in workflow["groups"])
    kinds = {node["class_type"]: node["inputs"] for node in result["prompt"].values()}
    sampler, control = kinds["PortraitTalkIdentityNetSampler"], kinds["PortraitTalkAnimateNetControl"]
    expected = expected | {"keep_frames": "always" if name == "dub_a_video" else "auto", "crf": 16, "fps": 25}
    assert {key: sampler[key] for key in expected} == expected
    assert (control["mode"], control["window"], control["overlap"]) == ("chunked", 16, 4)
    if name == "dub_a_video":
        crop, paste = kinds["PortraitTalkCropFace"], kinds["PortraitTalkPasteFace"]
        assert crop["landmarks"] == paste["landmarks"] and crop["image"] == paste["target"]
        assert [crop[key] for key in ("margin", "box", "size")] == [paste["margin"], paste["box"], 512]
        assert [paste[key] for key in ("feather", "match_colour", "mask")] == [0.15, 1, "auto"]
        assert kinds["CreateVideo"]["fps"] == kinds["PortraitTalkLandmarksFromVideo"]["fps"]
        assert isinstance(kinds["PortraitTalkAudioToLandmarks"]["driving_landmarks"], list)
    assert not [problem for problem in problems if "portraittalk" in problem.lower() or "pt_under_test" in problem]


def test_page_opens_v_express(comfy, tmp_path):
    workflow = shipped("v_express_portrait")
    picture = Path(os.environ.get("PORTRAITTALK_SCREENSHOTS", tmp_path)) / "v_express_portrait.png"
    result, problems = _page_state(comfy, workflow, tmp_path, picture, queue=False, size=WIDE)
    assert (result["unknown"], result["overlaps"], result["outside"]) == ([], [], [])
    kinds = {node["class_type"]: node["inputs"] for node in result["prompt"].values()}
    expected = {"networks": "models/vexpress", "encoder": "wav2vec2-base-960h.safetensors", "seed": 0, "steps": 25}
    expected |= {"cfg": 3.5, "reference_weight": 0.95, "audio_weight": 3, "width": 512, "height": 512, "crf": 16}
    expected |= {"keep_frames": "auto", "head": "auto", "window": 24, "overlap": 4, "face_index": 0}
    node = kinds["PortraitTalkVExpress"]
    assert {key: node[key] for key in expected} == expected
    assert all(isinstance(node[wire], list) for wire in ("portrait", "audio", "vae", "landmarks"))
    assert not [problem for problem in problems if "portraittalk" in problem.lower() or "pt_under_test" in problem]


def test_page_runs_the_quick_portrait(comfy, tmp_path):
    """As it comes, with the pack's own samples."""
    workflow = shipped("quick_portrait")
    picture = Path(os.environ.get("PORTRAITTALK_SCREENSHOT", tmp_path / "page.png"))
    result, problems = _page_state(comfy, workflow, tmp_path, picture)
    assert result["ended"] == "success"
    kinds = {str(node["id"]): node["type"] for node in workflow["nodes"]}
    outputs_by_kind = {kinds.get(node): outputs for node, outputs in result["shown"].items()}
    assert outputs_by_kind["SaveVideo"]["images"]
    assert outputs_by_kind["PortraitTalkPreviewLandmarks"]["images"]
    ours = [problem for problem in problems if "portraittalk" in problem.lower() or "pt_under_test" in problem]
    assert not ours
    assert result["overlaps"] == []
    assert picture.stat().st_size > 50_000
