"""The pack's nodes, help pages, languages and templates as a real ComfyUI server lists them."""

import json
from pathlib import Path

import pytest

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"  # newer ComfyUI's list whose entries have inputs of their own
pytestmark = pytest.mark.comfy

ROOT = Path(__file__).parents[2]
NODES = {
    "PortraitTalkAudioToLandmarks": "AudioToLandmarks",
    "PortraitTalkGazeAndBreath": "Gaze And Breath",
    "PortraitTalkLoadMotionEngine": "Load Motion Engine",
    "PortraitTalkLandmarksFromVideo": "Landmarks From Video",
    "PortraitTalkPreviewLandmarks": "Preview Landmarks",
    "PortraitTalkSaveLandmarks": "Save Landmarks",
    "PortraitTalkLoadLandmarks": "Load Landmarks",
    "PortraitTalkRenderPortrait": "Render Portrait",
    "PortraitTalkLoadFaceEmbedding": "Load Face Embedding",
    "PortraitTalkBlendFaces": "Blend Faces",
    "PortraitTalkPersonMask": "Person Mask",
    "PortraitTalkLoadIdentityAdapter": "Load Identity Adapter",
    "PortraitTalkAnimateNetControl": "AnimateNet Control",
    "PortraitTalkIdentityNetSampler": "IdentityNet Sampler",
    "PortraitTalkVExpress": "V-Express Portrait",
    "PortraitTalkLoadKeypointRenderer": "Load Keypoint Renderer",
    "PortraitTalkKeypointsFromVideo": "Keypoints From Video",
    "PortraitTalkLandmarksToKeypoints": "Landmarks To Keypoints",
    "PortraitTalkAudio2Exp": "Audio2Exp",
    "PortraitTalkAudioToKeypoints": "AudioToKeypoints",
    "PortraitTalkEditKeypoints": "Edit Keypoints",
    "PortraitTalkRenderKeypoints": "Render Keypoints",
    "PortraitTalkSaveKeypoints": "Save Keypoints",
    "PortraitTalkLoadKeypoints": "Load Keypoints",
    "PortraitTalkLoadLipRenderer": "Load Lip Renderer",
    "PortraitTalkSelectReferences": "Select References",
    "PortraitTalkDubLips": "Dub Lips",
    "PortraitTalkSeveralSpeakers": "Several Speakers",
    "PortraitTalkStylePrior": "StylePrior",
    "PortraitTalkBlendStyles": "Blend Styles",
    "PortraitTalkSaveStyle": "Save Style",
    "PortraitTalkLoadStyle": "Load Style",
    "PortraitTalkCropFace": "Crop Face",
    "PortraitTalkPasteFace": "Paste Face",
    "PortraitTalkADFDScore": "ADFD Score",
    "PortraitTalkCompareVideos": "Compare Videos",
    "PortraitTalkScoreWithoutReference": "Score Without Reference",
}


def input_specs(node: dict) -> dict:
    """Inputs of a node; the plain sockets of one that grows, pictures.picture0 and so on, count as that one.

    On newer ComfyUI those that belong to an entry of a list lie within the list.
    """
    specs, within = node["input"].get("required", {}) | node["input"].get("optional", {}), {}
    for spec in specs.values():
        entries = spec[1].get("options", []) if spec[0] == DYNAMIC_COMBO else []
        for entry in entries:
            within |= entry["inputs"].get("required", {}) | entry["inputs"].get("optional", {})
    return {key.split(".")[0]: spec for key, spec in (specs | within).items()}


def has_lists(node: dict) -> bool:
    """Whether inputs belong to entries of a list, which shows fewer where files are lacking."""
    return any(spec[0] == DYNAMIC_COMBO for spec in node["input"].get("required", {}).values())


def test_nodes_are_there_with_names_tooltips_and_help(comfy, object_info):
    node_infos = {name: info for name, info in object_info.items() if name.startswith("PortraitTalk")}
    assert {name: info["display_name"] for name, info in node_infos.items()} == NODES
    for name, info in node_infos.items():
        assert info["category"] == "PortraitTalk"
        assert len(info["description"]) > 30
        for group in ("required", "optional"):
            for widget, spec in info["input"].get(group, {}).items():
                assert spec[1].get("tooltip"), f"{name}.{widget} has no tooltip"
                if spec[0] in ("INT", "FLOAT"):
                    assert spec[1]["min"] <= spec[1]["default"] <= spec[1]["max"]
        assert all(info["output_tooltips"])
        folder = info["python_module"].split(".")[-1]
        assert comfy.get(f"/extensions/{folder}/docs/{name}.md").decode().startswith("#")


def test_nodes_that_show_something_show_it_again_from_the_cache(comfy, object_info):
    shows = {"RenderPortrait", "IdentityNetSampler", "VExpress", "StylePrior", "BlendStyles", "LoadStyle"}
    shows |= {"KeypointsFromVideo", "LandmarksToKeypoints", "AudioToKeypoints", "EditKeypoints", "RenderKeypoints"}
    shows |= {"LoadKeypoints", "DubLips", "SeveralSpeakers"}
    infos = {name: object_info[f"PortraitTalk{name}"] for name in shows | {"CropFace", "LoadLandmarks"}}
    if "has_intermediate_output" not in infos["CropFace"]:
        pytest.skip("this ComfyUI does not know the mark")
    assert {name for name, info in infos.items() if info["has_intermediate_output"]} == shows


def test_page_is_served_every_language(comfy, object_info):
    ours = {name: node for name, node in object_info.items() if name in NODES}
    served = comfy.get_json("/i18n")
    english = served["en"]["nodeDefs"]
    for language in ("en", "zh", "ja", "ko"):
        texts = served[language]["nodeDefs"]
        assert set(texts) == set(ours)
        for name, node in ours.items():
            inputs = input_specs(node)
            told = set(texts[name]["inputs"])
            assert (told >= set(inputs)) if has_lists(node) else (told == set(inputs)), f"{language} {name}"
            assert set(texts[name]["outputs"]) == {str(number) for number in range(len(node["output"]))}
            every = [texts[name], *texts[name]["inputs"].values(), *texts[name]["outputs"].values()]
            assert all(text for item in every for text in item.values())
            if language != "en":
                assert texts[name]["description"] != english[name]["description"]
    for name, node in ours.items():  # python tools/make_locale.py brings them together again
        inputs = input_specs(node)
        assert english[name]["description"] == node["description"]
        shown = english[name]["inputs"].keys() & inputs if has_lists(node) else english[name]["inputs"]
        assert {key: english[name]["inputs"][key]["tooltip"] for key in shown} == {
            key: spec[1]["tooltip"] for key, spec in inputs.items()
        }
        tips = [english[name]["outputs"][str(number)]["tooltip"] for number in range(len(node["output"]))]
        assert tips == node["output_tooltips"]


def test_help_names_every_input_and_output(object_info):
    for name in NODES:
        page, node = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8"), object_info[name]
        inputs = input_specs(node)
        assert page.startswith(f"# {node['display_name']}\n")
        for word in (*inputs, *node["output_name"]):
            assert f"**{word}**" in page, f"{name}.md does not tell of {word}"


def test_workflows_are_templates_with_thumbnails_and_known_inputs(comfy, object_info):
    (names,) = comfy.get_json("/workflow_templates").values()
    ours = {"quick_portrait", "identity_portrait", "talking_portrait", "score_a_video", "long_speech", "dub_a_video"}
    ours |= {"speak_in_their_style", "compare_two_seeds", "v_express_portrait", "everything", "edit_by_text"}
    ours |= {"keypoint_portrait", "keypoint_dub", "mouth_opening"}
    ours |= {"dub_lips", "dub_then_repaint", "fix_lips_of_a_generated_clip"}
    assert set(names) == ours
    for name in names:
        assert (ROOT / "workflows" / f"{name}.jpg").stat().st_size > 5000
        for node in json.loads((ROOT / "workflows" / f"{name}.json").read_text())["nodes"]:
            if node["type"] == "MarkdownNote":
                continue
            info = object_info[node["type"]]["input"]
            input_specs = info.get("required", {}) | info.get("optional", {})
            assert {item["name"] for item in node["inputs"]} <= set(input_specs)
