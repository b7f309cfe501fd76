"""Helper nodes for the server under test: sources of values that no core node of 0.3.64 gives."""

import dataclasses
import gc
import importlib.util
import sys
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch

RATE_HZ = 96_000


def _speechlike(channels: int, seconds: float) -> torch.Tensor:
    t = torch.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * torch.sin(1200 * t) * (torch.sin(20 * t) > 0)).expand(1, channels, -1).clone()


class GiveAudio:
    """An AUDIO that another pack might hand over."""

    KINDS = ("six channels", "silent", "empty", "nan", "batch", "nothing", "16 bits", "lazy", "lazy, silent film")
    RETURN_TYPES, FUNCTION, CATEGORY = ("AUDIO",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (cls.KINDS,)}}

    def give(self, kind):
        waveform = {
            "six channels": _speechlike(6, 1.0),
            "silent": torch.zeros(1, 1, RATE_HZ),
            "empty": torch.zeros(1, 2, 0),
            "nan": _speechlike(1, 1.0).index_fill_(2, torch.tensor([7, 8]), float("nan")),
            "batch": _speechlike(1, 1.0).expand(2, 1, -1),
            "nothing": None,
            "16 bits": (_speechlike(1, 1.0) * 32767).short(),
            "lazy": _speechlike(1, 1.0),
            "lazy, silent film": None,
        }[kind]
        if kind.startswith("lazy"):
            return (LazyAudio(waveform),)
        return (None if waveform is None else {"waveform": waveform, "sample_rate": RATE_HZ},)


class LazyAudio(Mapping):
    """An AUDIO that reads its file when it is asked, as VideoHelperSuite's."""

    def __init__(self, waveform):
        self.waveform = waveform

    def __getitem__(self, key):
        if self.waveform is None:
            raise Exception("failed to extract audio: the film has none")
        return {"waveform": self.waveform, "sample_rate": RATE_HZ}[key]

    def __iter__(self):
        return iter(("waveform", "sample_rate"))

    def __len__(self):
        if self.waveform is None:
            raise Exception("failed to extract audio: the film has none")
        return 2


class GiveImage:
    """An IMAGE as another pack might hand it over."""

    KINDS = ("bytes", "0..255", "transparent", "grey", "channels first")
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "kind": (cls.KINDS,)}}

    def give(self, image, kind):
        return (
            {
                "bytes": (image * 255).round().byte(),
                "0..255": image * 255,
                "transparent": torch.cat([image, torch.ones_like(image[..., :1])], 3),
                "grey": image.mean(3),
                "channels first": image.permute(0, 3, 1, 2),
            }[kind],
        )


class GiveCroppedVideo:
    """A VIDEO without its left side, as newer ComfyUI's Crop Video gives it: its source is the whole file."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("VIDEO",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "left": ("INT", {"default": 0})}}

    def give(self, images, left):
        import uuid
        from fractions import Fraction

        import folder_paths
        from comfy_api.input_impl import VideoFromComponents, VideoFromFile
        from comfy_api.util import VideoComponents

        class Cropped(VideoFromFile):
            def get_dimensions(self):
                width, height = super().get_dimensions()
                return width - left, height

            def get_components(self):
                parts = super().get_components()
                return VideoComponents(images=parts.images[:, :, left:], frame_rate=parts.frame_rate)

        path = f"{folder_paths.get_input_directory()}/{uuid.uuid4().hex}.mp4"
        VideoFromComponents(VideoComponents(images=images, frame_rate=Fraction(25))).save_to(path)
        return (Cropped(path),)


class GiveBox:
    """A BOUNDING_BOX as newer ComfyUI's detectors give them: lists of boxes, one a frame."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("BOUNDING_BOX",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {name: ("INT", {"default": 0}) for name in ("x", "y", "width", "height")}}

    def give(self, **box):
        return ([[{**box, "label": "face", "score": 0.9}]],)


class GiveCorners:
    """A BBOX as other packs' detectors give them: a list of left, top, right and bottom."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("BBOX",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {name: ("INT", {"default": 0}) for name in ("left", "top", "right", "bottom")}}

    def give(self, left, top, right, bottom):
        return ([[left, top, right, bottom]],)


class GiveFaceLandmarks:
    """FACE_LANDMARKS as ComfyUI's MediaPipe node has given them since 0.23, of a landmark track.

    Its depths are in units of a crop of 192 pixels. Faces change their order, and frame 3 shows none.
    """

    RETURN_TYPES, FUNCTION, CATEGORY = ("FACE_LANDMARKS",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"landmarks": ("PORTRAITTALK_LANDMARKS",)}}

    def give(self, landmarks):
        frames = []
        for number, points in enumerate(landmarks.points_px):
            crop = 192 / 300
            face = {"landmarks_xy": points[:, :2].numpy(), "landmarks_3d": ((points - points.mean(0)) * crop).numpy()}
            face["landmarks_3d"][:, 2] = points[:, 2].numpy() * crop
            other = {key: value + 900 for key, value in face.items()}
            frames.append([] if number == 3 else [face, other] if number % 2 == 0 else [other, face])
        return ({"frames": frames, "image_size": (landmarks.height, landmarks.width), "connection_sets": {}},)


class GiveEncodedAudio:
    """An AUDIO_ENCODER_OUTPUT as ComfyUI's own audio encoders give it, for a second of sound."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("AUDIO_ENCODER_OUTPUT",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"default": 1024})}}

    def give(self, width):
        return ({"encoded_audio": torch.zeros(1, 49, width), "audio_samples": 16_000},)


class GiveFloats:
    """A FLOAT that holds one number a frame, as curve nodes of other packs give it: 1 for 95 frames, then 0."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("FLOAT",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def give(self):
        return ([1.0] * 95 + [0.0],)


class GiveCurve:
    """A CURVE as newer ComfyUI's Curve Editor gives it, in small: 1 up to a part of the clip, then 0."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("CURVE",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"part": ("FLOAT", {"default": 0.5})}}

    def give(self, part):
        self.part = part
        return (self,)

    def interp_array(self, x):
        return (x < self.part).astype(float)


class GiveFace:
    """A face embedding of the pack under test, drawn by a seed."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("PORTRAITTALK_FACE_EMBEDDING",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def give(self, seed):
        faces = importlib.import_module(f"{_pack()}.portraittalk_core.face.identity.embedding")
        return (faces.FaceEmbedding(torch.randn(1, 512, generator=torch.Generator().manual_seed(seed))),)


class ShiftLandmarks:
    """A track whose frames from one on are elsewhere."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("PORTRAITTALK_LANDMARKS",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"landmarks": ("PORTRAITTALK_LANDMARKS",), "first": ("INT", {"default": 0})}}

    def give(self, landmarks, first):
        points = landmarks.points.clone()
        points[first:, :, 0] += 0.15
        return (dataclasses.replace(landmarks, points=points),)


class PatchAttention:
    """Node that patches an attention slot of a MODEL as another pack does."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "amount": ("FLOAT", {"default": 0.3})}}

    def patch(self, model, amount):
        from comfy.ldm.modules.attention import optimized_attention

        def replace(q, k, v, extra_options):
            return optimized_attention(q, k, v, extra_options["n_heads"]) + amount * q

        patched = model.clone()
        patched.set_model_attn2_replace(replace, "input", 1)
        return (patched,)


def _sizes():
    """tests/support/comfy_denoise.py, which knows the tiny networks' sizes."""
    path = Path(__file__).resolve().parents[1] / "support" / "comfy_denoise.py"
    spec = importlib.util.spec_from_file_location("pt_test_sizes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pack() -> str:
    """The name of the pack under test, among Python's modules."""
    return next(name for name in sys.modules if name.endswith("pt_under_test.nodes")).removesuffix(".nodes")


def _fill(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random weights that keep activations in bounds; norms stay as they are made."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim < 2:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                weight.copy_(torch.randn(weight.shape, generator=draw) / weight[0].numel() ** 0.5)
    return network.eval().requires_grad_(False)


class TinyClip:
    """A CLIP that gives random tokens of a text; CLIP Text Encode asks it so."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        draw = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        return [[torch.randn(1, 77, 48, generator=draw), {}]]


class GiveTinyCheckpoint:
    """MODEL, CLIP and VAE in the place of Load Checkpoint: SD1.5's layers, a tenth as wide, and TAESD.

    Each call of the network waits for `wait_s` first, so that there is time to interrupt it.
    """

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL", "CLIP", "VAE"), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"wait_s": ("FLOAT", {"default": 0.0})}}

    def give(self, wait_s):
        from comfy.patcher_extension import WrappersMP

        import nodes

        model = _sizes().empty_model()[0]
        _fill(model.model.diffusion_model, 1)

        def wait(executor, *args, **options):
            time.sleep(wait_s)
            return executor(*args, **options)

        if wait_s:
            model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "wait", wait)
        return (model, TinyClip(), nodes.VAELoader().load_vae("taesd")[0])


class GiveTinyControlNet:
    """A CONTROL_NET for GiveTinyCheckpoint, in the place of Load ControlNet Model."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("CONTROL_NET",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def give(self):
        import comfy.controlnet

        return (comfy.controlnet.ControlNet(_fill(_sizes().cldm(48), 2), load_device=torch.device("cpu")),)


class GiveTinyMotion:
    """A control with the motion module tiny_motion.safetensors, whose widths AnimateNet Control would refuse."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("PORTRAITTALK_CONTROL",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"control": ("PORTRAITTALK_CONTROL",)}}

    def give(self, control):
        import folder_paths

        motions = importlib.import_module(f"{_pack()}.nodes.bindings.motion")
        modules = importlib.import_module(f"{_pack()}.portraittalk_core.diffusion.motion_modules")
        operations = importlib.import_module(f"{_pack()}.nodes.bindings.unet").OPERATIONS
        path = Path(folder_paths.models_dir) / "animatediff_models" / "tiny_motion.safetensors"
        motion = motions.managed_motion(modules.load_motion_modules(path, operations, None))
        return (dataclasses.replace(control, motion=motion),)


NODE_CLASS_MAPPINGS = {
    "GiveTinyMotion": GiveTinyMotion,
    "GiveTinyCheckpoint": GiveTinyCheckpoint,
    "GiveTinyControlNet": GiveTinyControlNet,
    "GiveFace": GiveFace,
    "PatchAttention": PatchAttention,
    "ShiftLandmarks": ShiftLandmarks,
    "GiveCurve": GiveCurve,
    "GiveFloats": GiveFloats,
    "GiveEncodedAudio": GiveEncodedAudio,
    "GiveAudio": GiveAudio,
    "GiveBox": GiveBox,
    "GiveCorners": GiveCorners,
    "GiveCroppedVideo": GiveCroppedVideo,
    "GiveImage": GiveImage,
    "GiveFaceLandmarks": GiveFaceLandmarks,
}

gc.collect()
gc.freeze()  # ComfyUI collects garbage every ten seconds: modules, most of what it would look at, stay
