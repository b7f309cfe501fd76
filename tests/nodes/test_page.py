"""ComfyUI's own page in a real browser: shipped workflows are loaded, run and inspected.

That no node is missing, covers another or leaves its group, `test_page_layout.py` shows of every workflow.
"""

from __future__ import annotations

import asyncio
import json

import pytest
from browser import SETTLE_S, Tab, shipped

pytestmark = pytest.mark.comfy

WIDE = (2700, 1350)
# videos of nodes of this pack that the page plays
PLAYED = (
    "[...document.querySelectorAll('video')].filter(v => v.src.includes('portraittalk_') && v.videoWidth > 0).length"
)
# nodes that show a picture beside their video
BESIDE = (
    "app.graph._nodes.filter(n => n.videoContainer)"
    ".filter(n => n.imgs?.length || n.widgets.some(w => w.name.startsWith('$$c'))).map(n => n.type)"
)
REACH = "Math.max(...app.graph._nodes.map(n => n.getBounding()).map(b => b[0] + b[2]))"


async def whole_graph(tab: Tab, width: int) -> None:
    """Make the graph as small as the page."""
    place = f"app.canvas.ds.scale = Math.min(0.92, {width} / ({REACH} + 60)); app.canvas.ds.offset = [40, 80]"
    await tab.evaluate(f"{place}; app.canvas.draw(true, true)")


@pytest.fixture
def inputs_of(browser):
    """Inputs that a shipped workflow's nodes are run with once the page has loaded it, by the kind of node."""

    def read(name: str) -> dict[str, dict]:
        found = {}

        async def act(tab: Tab) -> None:
            await tab.load(shipped(name))
            found.update(await tab.inputs())

        browser.visit(act)
        return found

    return read


@pytest.mark.parametrize(("name", "denoise"), [("identity_portrait", 0.45), ("talking_portrait", 0.6)])
def test_page_shows_what_needs_weights_as_it_was_made(inputs_of, name, denoise):
    """Their weights are not there, so they are not run; every widget gets its own value."""
    kinds = inputs_of(name)
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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("long_speech", {"steps": 6, "cfg": 1, "sampler_name": "lcm", "scheduler": "sgm_uniform", "denoise": 0.5}),
        ("dub_a_video", {"steps": 20, "cfg": 3.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.65}),
    ],
)
def test_page_opens_the_workflows_of_whole_videos(inputs_of, name, expected):
    """Every widget has its own value."""
    kinds = inputs_of(name)
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


def test_page_opens_v_express(inputs_of):
    expected = {"networks": "models/vexpress", "encoder": "wav2vec2-base-960h.safetensors", "seed": 0, "steps": 25}
    expected |= {"cfg": 3.5, "reference_weight": 0.95, "audio_weight": 3, "width": 512, "height": 512, "crf": 16}
    expected |= {"keep_frames": "auto", "head": "auto", "window": 24, "overlap": 4, "face_index": 0}
    node = inputs_of("v_express_portrait")["PortraitTalkVExpress"]
    assert {key: node[key] for key in expected} == expected
    assert all(isinstance(node[wire], list) for wire in ("portrait", "audio", "vae", "landmarks"))


def run(browser, workflow: dict, name: str) -> tuple[dict[str, dict], dict[str, dict]]:
    """Run a workflow; what its nodes show afterwards and their inputs, both by the kind of node."""
    shown, inputs = {}, {}
    kinds = {str(node["id"]): node["type"] for node in workflow["nodes"]}

    async def act(tab: Tab) -> None:
        await tab.load(workflow)
        assert await tab.run() == "success"
        await whole_graph(tab, WIDE[0])
        outputs = json.loads(await tab.evaluate("JSON.stringify(app.nodeOutputs)"))
        shown.update({kinds.get(node): output for node, output in outputs.items()})
        inputs.update(await tab.inputs())
        await tab.shoot(name)
        assert len(await tab.picture()) > 50_000

    browser.visit(act, size=WIDE)
    return shown, inputs


def with_speech(name: str, speech: str) -> dict:
    """A shipped workflow with a shorter speech, which is quicker to draw."""
    workflow = shipped(name)
    (sound,) = (node for node in workflow["nodes"] if node["type"] == "LoadAudio")
    sound["widgets_values"][0] = speech
    return workflow


def test_page_runs_the_quick_portrait(browser, short_speech):
    """With the pack's own portrait; all of the sample speech is drawn in test_comfy."""
    shown, _ = run(browser, with_speech("quick_portrait", short_speech), "quick_portrait")
    assert shown["SaveVideo"]["images"]
    assert shown["PortraitTalkPreviewLandmarks"]["images"]


@pytest.mark.parametrize("rendering", ["classic", "newer"])
def test_the_video_takes_the_place_of_the_pictures_while_it_was_made(browser, request, short_speech, rendering):
    """The page would keep the last of these pictures; newer nodes would call it a video that cannot be loaded."""
    newer = rendering == "newer"
    if newer:
        request.getfixturevalue("drawn_by_vue")
    workflow = with_speech("quick_portrait", short_speech)
    (motion,) = (node for node in workflow["nodes"] if node["type"] == "PortraitTalkAudioToLandmarks")
    motion["widgets_values"][4] = 100 + newer  # a seed of its own: a run that is not cached shows pictures

    async def act(tab: Tab) -> None:
        await tab.load(workflow)
        assert await tab.run() == "success"
        await tab.until(lambda: tab.evaluate(PLAYED), 1)
        assert await tab.evaluate("Object.keys(app.nodePreviewImages ?? {}).length") == 0
        await asyncio.sleep(SETTLE_S)
        await tab.until(lambda: tab.evaluate(BESIDE), [])
        assert not await tab.evaluate("document.body.innerText.includes('Error loading video')")
        await tab.shoot(f"video_{rendering}")

    browser.visit(act, newer, WIDE)


def test_page_runs_speak_in_their_style(browser, short_speech):
    """Nothing is downloaded; the plot is shown."""
    shown, inputs = run(browser, with_speech("speak_in_their_style", short_speech), "speak_in_their_style")
    expected = {"preset": "of the reference", "strength": 1, "noise": 0.1, "seed": 0, "extractor": "built-in"}
    expected |= {"style_attention": "none", "fps": 25, "face_index": 0}
    assert {key: inputs["PortraitTalkStylePrior"][key] for key in expected} == expected
    assert isinstance(inputs["PortraitTalkAudioToLandmarks"]["style"], list)
    for kind in ("PortraitTalkStylePrior", "SaveVideo"):
        assert shown[kind]["images"]
    assert shown["PortraitTalkSaveStyle"]["text"]
