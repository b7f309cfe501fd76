"""A real ComfyUI server with this pack in it, for the tests marked `comfy`.

ComfyUI is taken from COMFYUI_DIR, else ~/ComfyUI; its Python from COMFYUI_PYTHON, else venv or .venv inside it; its
page from COMFYUI_FRONT_END (a folder comfyui_frontend_package/static), else the one that it comes with.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from browser import SETTINGS, Browser, shipped
from comfy_place import ROOT, comfy_environment, comfy_folder, comfy_python
from full_size_files import write_full_size
from suite_limits import SERVERS, SLOWNESS
from timeline_tab import Timeline
from tiny_vae import write_taesd

FOLDER_NAME = "pt_under_test"  # unlike the project's name: nothing may depend on the folder
PACK = (
    "__init__.py",
    "nodes",
    "portraittalk_core",
    "workflows",
    "subgraphs",
    "samples",
    "web",
    "locales",
    "requirements.txt",
    "pyproject.toml",
)
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"  # newer ComfyUI's list whose entries have inputs of their own
START_S, RUN_S, ANSWER_S = 360, 900, 120  # at most, on a slow and busy machine
TEXT_MESSAGE = 3  # kind of a binary message of ComfyUI's server: text on a node, which begins with the node's name
LOG_LINES = 15  # of a server that does not start
NOT_STARTED = pytest.StashKey[bool]()
RUNNING = pytest.StashKey["Comfy"]()


@dataclass
class Run:
    """Result of one queued prompt."""

    status: str  # "success", "error" or "interrupted"
    message: str  # of the error
    outputs: dict  # node id → what it shows
    progress: list[tuple[str, int, int]] = field(default_factory=list)  # node, value, max
    previews: int = 0
    texts: list[tuple[str, str]] = field(default_factory=list)  # node, what is shown on it while it runs
    after_interrupt_s: float | None = None  # processor time of the server, divided by the machine's slowness


class ComfyUIDidNotStart(Exception):
    """Says so with the last lines of its log, and what to do."""

    def __init__(self, why: str, command: list[str], folder: Path, log: str) -> None:
        lines = [line[:300] for line in log.splitlines() if line.strip()][-LOG_LINES:] or ["(it wrote nothing)"]
        missing = re.findall(r"No module named '([\w.]+)'", log)
        what = f"its Python lacks {missing[-1]}: {command[0]} -m pip install -r" if missing else "run it by hand:"
        what += f" {folder / 'requirements.txt'}" if missing else f" cd {folder} && {' '.join(command[:3])}"
        super().__init__(
            f"ComfyUI at {folder} {why}. Its last lines:\n  " + "\n  ".join(lines) + f"\nWhat to do: {what}\n"
            "or name another with COMFYUI_DIR and COMFYUI_PYTHON. The other tests of nodes are skipped."
        )


class Comfy:
    """A server that can be killed and started again, with the same folders and at the same address."""

    def __init__(self, command: list[str], folder: Path, url: str, base: Path, slowness: float = 1.0) -> None:
        self.command, self.folder, self.url, self.base, self.slowness = command, folder, url, base, slowness
        self.log = base / "server.log"
        self.server: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("a") as out:
            self.server = subprocess.Popen(
                self.command, cwd=self.folder, env=comfy_environment(), stdout=out, stderr=subprocess.STDOUT
            )
        SERVERS[:] = [self.server.pid]
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.server.poll() is None:
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.3)
        ended = self.server.poll()
        why = f"did not answer within {START_S} s" if ended is None else f"ended with code {ended}"
        raise ComfyUIDidNotStart(why, self.command, self.folder, self.log.read_text(errors="replace"))

    def kill(self) -> None:
        """Kill the server's process at once."""
        self.server.kill()
        self.server.wait()

    def stop(self) -> None:
        self.server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.server.wait(20)
        self.kill()

    def processor_s(self) -> float:
        """Processor time that the server has used."""
        import psutil

        times = psutil.Process(self.server.pid).cpu_times()
        return times.user + times.system

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=ANSWER_S) as answer:
            return answer.read()

    def get_json(self, path: str) -> dict:
        return json.loads(self.get(path))

    def post(self, path: str, body: dict) -> dict:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return {"refused": json.loads(error.read())}

    def put_input(self, path: Path, name: str | None = None) -> str:
        """Copy a file into ComfyUI's input folder and return its name there."""
        name = name or path.name
        shutil.copyfile(path, self.base / "input" / name)
        return name

    @contextlib.contextmanager
    def without(self, kind: str):
        """The server without one folder of models, whichever tests filled it before."""
        folder = self.base / "models" / kind
        exists = folder.exists()
        if exists:
            folder.rename(folder.with_name("away"))
        try:
            yield
        finally:
            if exists:
                folder.with_name("away").rename(folder)

    def temp_files(self) -> list[str]:
        return sorted(p.name for p in (self.base / "temp").rglob("*") if "portraittalk" in p.name or ".part" in p.name)

    def output(self, file: dict) -> Path:
        return self.base / file["type"] / file["subfolder"] / file["filename"]

    def run(self, prompt: dict, interrupt_at: tuple[str, int] | None = None) -> Run:
        """Queue a prompt in API format and wait for its end."""
        return asyncio.run(self._run(prompt, interrupt_at))

    async def _run(self, prompt: dict, interrupt_at: tuple[str, int] | None) -> Run:
        import aiohttp

        client = uuid.uuid4().hex
        run = Run("", "", {})
        address = f"{self.url.replace('http', 'ws')}/ws?clientId={client}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as ws:
            await ws.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            answer = await asyncio.to_thread(self.post, "/prompt", {"prompt": prompt, "client_id": client})
            if "refused" in answer:
                return Run("error", json.dumps(answer["refused"], ensure_ascii=False), {})
            prompt_id, used_s = answer["prompt_id"], None
            async with asyncio.timeout(RUN_S):
                async for message in ws:
                    if message.type == aiohttp.WSMsgType.BINARY:
                        if int.from_bytes(message.data[:4], "big") == TEXT_MESSAGE:
                            end = 8 + int.from_bytes(message.data[4:8], "big")
                            run.texts.append((message.data[8:end].decode(), message.data[end:].decode()))
                        else:
                            run.previews += 1
                        continue
                    event = json.loads(message.data)
                    data = event["data"]
                    if data.get("prompt_id") not in (prompt_id, None):
                        continue
                    if event["type"] == "progress":
                        run.progress.append((data["node"], data["value"], data["max"]))
                        node, value = interrupt_at or (None, 0)
                        if used_s is None and data["node"] == node and data["value"] >= value:
                            await asyncio.to_thread(self.post, "/interrupt", {"prompt_id": prompt_id})
                            used_s = self.processor_s()  # not before it is told, which a busy machine does late
                    elif event["type"] == "execution_error":
                        run.status, run.message = "error", data["exception_message"]
                    elif event["type"] == "execution_interrupted":
                        run.status = "interrupted"
                        run.after_interrupt_s = (self.processor_s() - used_s) / self.slowness if used_s else None
                    elif event["type"] == "execution_success":
                        run.status = "success"
                    if run.status and (run.status != "success" or await self._stored(prompt_id)):
                        break
        history = self.get_json(f"/history/{prompt_id}").get(prompt_id, {})
        run.outputs = history.get("outputs", {})
        return run

    async def _stored(self, prompt_id: str) -> bool:
        """The server says success a moment before it has stored what came out."""
        for _ in range(1000):
            if prompt_id in await asyncio.to_thread(self.get_json, f"/history/{prompt_id}"):
                return True
            await asyncio.sleep(0.05)
        return False


def to_api(workflow: dict, object_info: dict) -> dict:
    """A workflow as the page saves it, in the format that /prompt takes."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        wired = {item["name"]: links[item["link"]] for item in node["inputs"] if item["link"] is not None}
        wired_widgets = {item["name"] for item in node["inputs"] if "widget" in item}  # they keep their value
        values = iter(node["widgets_values"])
        inputs = _api_inputs(object_info[node["type"]]["input"], values, wired, wired_widgets)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _api_inputs(info: dict, values: Iterator, wired: dict, wired_widgets: set[str], prefix: str = "") -> dict:
    """Inputs of a node by name; those that an entry of a dynamic list brings with it stand behind it, as list.name."""
    inputs = {}
    for key, spec in (info.get("required", {}) | info.get("optional", {})).items():
        name, kind, options = prefix + key, spec[0], spec[1] if len(spec) > 1 else {}
        if name in wired:
            inputs[name] = wired[name]
            if name in wired_widgets:
                next(values)
        elif options.get("forceInput"):  # a socket without a widget
            continue
        elif isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC_COMBO):
            value = next(values, None)
            if value is None and key in info.get("optional", {}):
                continue  # the workflow is older than this input, which keeps its default
            inputs[name] = value
            if options.get("control_after_generate"):
                next(values)
            if kind == DYNAMIC_COMBO:
                (entry,) = (entry for entry in options["options"] if entry["key"] == value)
                inputs |= _api_inputs(entry["inputs"], values, wired, wired_widgets, f"{name}.")
    return inputs


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A server that does not start fails one test, since the others would only say the same.

    One that ended in the middle (for want of memory, say) has failed the test that saw it, and is started again.
    """
    stash = item.config.stash
    if "comfy" not in item.fixturenames:
        return
    if NOT_STARTED not in stash and RUNNING in stash and stash[RUNNING].server.poll() is not None:
        _start(stash[RUNNING], item.config)
    if NOT_STARTED in stash:
        pytest.skip("ComfyUI did not start: see the one error")


def _start(running: Comfy, config: pytest.Config) -> None:
    try:
        running.start()
    except ComfyUIDidNotStart as error:
        problem = str(error)
    else:
        config.stash[RUNNING] = running
        return
    config.stash[NOT_STARTED] = True
    pytest.fail(problem, pytrace=False)


@pytest.fixture(scope="session")
def comfy_with_onnxruntime(comfy) -> Comfy:
    """The server, where its Python has onnxruntime, by which InsightFace's networks run; it is no requirement."""
    found = subprocess.run([comfy.command[0], "-c", "import onnxruntime"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"NOT TESTED: {comfy.command[0]} has no onnxruntime; install it there with pip.")
    return comfy


@pytest.fixture(scope="session")
def comfy(tmp_path_factory, request):
    """A server on a free loopback port, with its own folders."""
    folder = comfy_folder()
    python = comfy_python(folder)
    base = tmp_path_factory.mktemp("comfy")
    pack = base / "custom_nodes" / FOLDER_NAME
    for sub in ("input", "output", "temp", "user", "models"):
        (base / sub).mkdir()
    pack.mkdir(parents=True)
    for name in PACK:
        (pack / name).symlink_to(ROOT / name)
    (base / "custom_nodes" / "given_values.py").symlink_to(Path(__file__).with_name("given_values.py"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "main.py", "--cpu", "--port", str(port), "--disable-auto-launch", "--disable-api-nodes"]
    page = os.environ.get("COMFYUI_FRONT_END")
    command += ["--front-end-root", str(Path(page).expanduser())] if page else []
    url, slowness = f"http://127.0.0.1:{port}", request.config.stash[SLOWNESS]
    running = Comfy([*command, "--base-directory", str(base)], folder, url, base, slowness)
    try:
        _start(running, request.config)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def object_info(comfy) -> dict:
    return comfy.get_json("/object_info")


@pytest.fixture(scope="session")
def workflow_prompt(object_info):
    """Gives a shipped workflow in API format."""

    def read(name: str) -> dict:
        return to_api(json.loads((ROOT / "workflows" / f"{name}.json").read_text()), object_info)

    return read


@pytest.fixture(scope="session")
def portrait_name(comfy, tmp_path_factory) -> str:
    from PIL import Image
    from skimage.data import astronaut

    path = tmp_path_factory.mktemp("portrait") / "portrait.png"
    Image.fromarray(astronaut()).save(path)
    return comfy.put_input(path)


@pytest.fixture(scope="session")
def small_portrait_name(comfy, tmp_path_factory) -> str:
    """The same with sides half as long: drawing, encoding and scoring take a quarter of the time."""
    from PIL import Image
    from skimage.data import astronaut

    path = tmp_path_factory.mktemp("portrait") / "small.png"
    Image.fromarray(astronaut()).resize((256, 256), Image.Resampling.LANCZOS).save(path)
    return comfy.put_input(path)


@pytest.fixture(scope="session")
def speech_name(comfy) -> str:
    return comfy.put_input(ROOT / "samples" / "speech.wav")


@pytest.fixture(scope="session")
def short_speech(comfy) -> str:
    with wave.open(str(ROOT / "samples" / "speech.wav")) as source:
        params, sound = source.getparams(), source.readframes(source.getframerate() // 2)
    path = comfy.base / "half_second.wav"
    with wave.open(str(path), "wb") as half:
        half.setparams(params)
        half.writeframes(sound)
    return comfy.put_input(path)


@pytest.fixture(scope="session")
def taesd(comfy) -> str:
    """TAESD with random weights, which decodes twenty times as fast as a VAE of the true size; its name in a list."""
    write_taesd(comfy.base / "models" / "vae_approx")
    return "taesd"


@pytest.fixture(scope="session")
def sd15_weights(comfy):
    """Random weights of SD1.5's true shape where ComfyUI's loaders look for them."""
    write_full_size(comfy.base / "models")
    yield
    shutil.rmtree(comfy.base / "models" / "checkpoints")


@pytest.fixture(scope="session")
def browser(comfy, tmp_path_factory):
    """A browser on the server's page."""
    comfy.post("/settings", SETTINGS)
    opened = Browser(tmp_path_factory.mktemp("profile"), comfy.url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def drawn_by_vue(browser) -> None:
    """Skips where the page has no newer rendering of nodes, or one that is not finished."""

    async def act(tab) -> None:
        await tab.load(shipped("quick_portrait"))
        await Timeline(tab, "PortraitTalkAudioToLandmarks").skip_without_dom_widgets()

    browser.visit(act, newer=True)
