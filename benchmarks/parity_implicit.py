"""Parity of LivePortrait's and face-vid2vid's networks with the public code, on files of random weights we write."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor, nn

from portraittalk_core.renderers.implicit.contract import Keypoints
from portraittalk_core.renderers.implicit.files import open_keypoint_model, write_random_files

from .parity import PublicCode, compared, imported, run_all, timed

PUBLIC = PublicCode(
    "https://github.com/KlingAIResearch/LivePortrait", "src/modules/convnextv2.py", {"yaml": "pyyaml", "scipy": "scipy"}
)
FACE_VID2VID = PublicCode(
    "https://github.com/zhanglonghao1992/One-Shot_Free-View_Neural_Talking_Head_Synthesis",
    "modules/keypoint_detector.py",
    {"yaml": "pyyaml"},
)
CONTROLTALK = PublicCode(
    "https://github.com/NetEase-Media/ControlTalk", "modules/tencent_wav2vec.py", {"yaml": "pyyaml"}
)
CONFIGS = "config/vox-256.yaml", "configs/vox-256-beta.yaml"  # of the one and of the other face-vid2vid
NETWORKS = ("appearance_feature_extractor", "motion_extractor", "warping_module", "spade_generator")
FACES, SIDE = 2, 256


@torch.no_grad()
def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public code in `repo` and ours, and the size of what is compared; true sizes.

    Args:
        repo: a copy of github.com/KlingAIResearch/LivePortrait.
    """
    with imported(repo, "src", ("cv2", "src.utils.timer", "src.utils.rprint")), TemporaryDirectory() as folder:
        paths = write_random_files(Path(folder), "liveportrait-21", "public", form="torch")
        files = {path.stem: str(path) for path in paths}
        wrapper = importlib.import_module("src.live_portrait_wrapper")
        config = importlib.import_module("yaml").safe_load((repo / "src/config/models.yaml").read_text())
        load = importlib.import_module("src.utils.helper").load_model
        nets = {name: load(files[name], config, "cpu", name) for name in (*NETWORKS, "stitching_retargeting_module")}
        settings = SimpleNamespace(flag_use_half_precision=False)
        public = SimpleNamespace(**nets, device="cpu", inference_cfg=settings, compile=False)
        ours, small = open_keypoint_model(paths)
    public.inference_ctx = torch.inference_mode
    public.stitch = lambda *faces: wrapper.LivePortraitWrapper.stitch(public, *faces)

    def call(name: str, *arguments: object) -> object:
        return getattr(wrapper.LivePortraitWrapper, name)(public, *arguments)

    crops = _crops()
    info, keypoints = call("get_kp_info", crops), ours.keypoints(crops)
    angles = torch.cat([info[name] for name in ("pitch", "yaw", "roll")], 1)
    results = _keypoints_compared(keypoints, (info["kp"], angles, info["t"], info["scale"][:, 0], info["exp"]))
    turned = Keypoints(keypoints.canonical, _angles(), *_rest(keypoints))
    wide = {name: turned.rotation_deg[:, i, None] for i, name in enumerate(("pitch", "yaw", "roll"))}
    results |= compared("placed keypoints", ours.place(turned), call("transform_keypoint", {**info, **wide}))
    source, driving = ours.place(keypoints)[:1].expand(FACES, -1, -1).contiguous(), ours.place(turned)
    ratios = torch.tensor([[0.1, 0.3], [0.02, 0.4]])
    eyes = torch.cat([ratios, ratios[:, :1]], 1)
    results |= compared("stitching", small.stitch(source, driving), call("stitching", source, driving))
    results |= compared("lips", small.lips(source, *ratios.unbind(1)), call("retarget_lip", source, ratios))
    results |= compared("eyes", small.eyes(source, ratios, ratios[:, 0]), call("retarget_eye", source, eyes))
    features = call("extract_feature_3d", crops[:1])
    results |= compared("features", ours.features(crops[:1]), features)
    many = features.expand(FACES, -1, -1, -1, -1)
    pictures = timed("ours", lambda: ours.render(features, source[:1], driving), FACES)
    expected = timed("public", lambda: call("warp_decode", many, source, driving)["out"], FACES)
    return results | compared("picture", pictures[0], expected[0]) | pictures[1] | expected[1]


@torch.no_grad()
def measure_facevid2vid(repo: Path) -> dict[str, float]:
    """Largest differences between the public code in `repo` and ours, and the size of what is compared; true sizes.

    Args:
        repo: a copy of github.com/zhanglonghao1992/One-Shot_Free-View_Neural_Talking_Head_Synthesis, or of
            github.com/NetEase-Media/ControlTalk, whose modules ask for CUDA and are kept on the CPU.
    """
    with TemporaryDirectory() as folder:
        (path,) = write_random_files(Path(folder), "face-vid2vid-15", "public", form="torch")
        ours, _ = open_keypoint_model(path)
        states = torch.load(path, weights_only=True)
    with imported(repo, "modules", ("torchvision",)), _kept_on_cpu():
        nets = _face_vid2vids(repo, states)
        helpers = importlib.import_module("modules.model")
        crops = _crops()
        keypoints, canonical, heads = ours.keypoints(crops), nets["kp_detector"](crops), nets["he_estimator"](crops)
        degrees = [helpers.headpose_pred_to_degree(heads[name]) for name in ("pitch", "yaw", "roll")]
        expected = (canonical["value"], torch.stack(degrees, 1), heads["t"], torch.ones(FACES), heads["exp"])
        results = _keypoints_compared(keypoints, expected)
        placed = helpers.keypoint_transformation(canonical, heads, False)["value"]
        results |= compared("placed keypoints", ours.place(keypoints), placed)
        pitch, yaw, roll = _angles().unbind(1)
        turned = Keypoints(keypoints.canonical, _angles(), *_rest(keypoints))
        still = Keypoints(
            turned.canonical, turned.rotation_deg, 0 * turned.translation, turned.scale, 0 * turned.expression
        )
        matrix = helpers.get_rotation_matrix(yaw, pitch, roll)
        results |= compared("rotation", ours.place(still), torch.einsum("bij,bkj->bki", matrix, still.canonical))
        source, driving = ours.place(keypoints)[:1], ours.place(turned)
        points = {"value": source.expand(FACES, -1, -1)}, {"value": driving}
        many = crops[:1].expand(FACES, -1, -1, -1)
        features = ours.features(crops[:1])
        pictures = timed("ours", lambda: ours.render(features, source, driving), FACES)
        public = timed(
            "public", lambda: nets["generator"](many, kp_source=points[0], kp_driving=points[1])["prediction"], FACES
        )
        return results | compared("picture", pictures[0], public[0]) | pictures[1] | public[1]


def _face_vid2vids(repo: Path, states: dict[str, dict[str, Tensor]]) -> dict[str, nn.Module]:
    """The public code's networks by name, with the weights of a checkpoint."""
    text = next((repo / name).read_text() for name in CONFIGS if (repo / name).is_file())
    config = importlib.import_module("yaml").safe_load(text)["model_params"]
    detectors, generators = (importlib.import_module(f"modules.{n}") for n in ("keypoint_detector", "generator"))
    kinds = {
        "generator": generators.OcclusionAwareSPADEGenerator,
        "kp_detector": detectors.KPDetector,
        "he_estimator": detectors.HEEstimator,
    }
    nets = {name: kind(**config[f"{name}_params"], **config["common_params"]) for name, kind in kinds.items()}
    for name, net in nets.items():
        net.load_state_dict(states[name])
        net.eval()
    return nets


@contextmanager
def _kept_on_cpu() -> Iterator[None]:
    """Whatever asks for CUDA stays where it is."""

    def without_cuda(call: Callable) -> Callable:
        def called(*args: object, **options: object) -> object:
            kept = [value for value in args if not _is_cuda(value)]
            return call(*kept, **{name: value for name, value in options.items() if not _is_cuda(value)})

        return called

    def itself(module: object, *_: object, **__: object) -> object:
        return module

    with ExitStack() as patches:
        for owner in (Tensor, nn.Module):
            patches.enter_context(patch.object(owner, "cuda", itself))
        patches.enter_context(patch.object(Tensor, "to", without_cuda(Tensor.to)))
        for name in ("arange", "zeros", "ones", "tensor", "linspace"):
            patches.enter_context(patch.object(torch, name, without_cuda(getattr(torch, name))))
        yield


def _is_cuda(value: object) -> bool:
    return isinstance(value, str | torch.device) and str(value).startswith("cuda")


def _crops() -> Tensor:
    return torch.rand(FACES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def _angles() -> Tensor:
    return torch.tensor([[12.0, -25.0, 8.0], [-7.0, 40.0, -15.0]])


def _rest(keypoints: Keypoints) -> tuple[Tensor, Tensor, Tensor]:
    return keypoints.translation, keypoints.scale, keypoints.expression


def _keypoints_compared(keypoints: Keypoints, expected: Sequence[Tensor]) -> dict[str, float]:
    canonical, angles, *rest = expected
    results = compared("canonical", keypoints.canonical, canonical.reshape(keypoints.canonical.shape))
    results |= compared("rotation in radians", keypoints.rotation_deg.deg2rad(), angles.deg2rad())
    for name, value in zip(("translation", "scale", "expression"), rest, strict=True):
        actual = getattr(keypoints, name)
        results |= compared(name, actual, value.reshape(actual.shape))
    return results


def main(args: Sequence[str] | None = None) -> int:
    """Compare with every copy that is named, of whichever repository it is."""
    return run_all(((PUBLIC, measure), (CONTROLTALK, measure_facevid2vid), (FACE_VID2VID, measure_facevid2vid)), args)


if __name__ == "__main__":
    raise SystemExit(main())
