"""Helper nodes for the server under test: sources of values that no core node of 0.3.64 gives."""

import dataclasses
import importlib
import sys

import torch

RATE_HZ = 96_000


def _speechlike(channels: int, seconds: float) -> torch.Tensor:
    t = torch.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * torch.sin(1200 * t) * (torch.sin(20 * t) > 0)).expand(1, channels, -1).clone()


class GiveAudio:
    """An AUDIO that another pack might hand over."""

    KINDS = ("six channels", "silent", "empty", "nan", "batch", "nothing")
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
        }[kind]
        return (None if waveform is None else {"waveform": waveform, "sample_rate": RATE_HZ},)


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


class GiveFace:
    """A face embedding of the pack under test, drawn by a seed."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("PORTRAITTALK_FACE_EMBEDDING",), "give", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"default": 0})}}

    def give(self, seed):
        pack = next(name for name in sys.modules if name.endswith("pt_under_test.nodes")).removesuffix(".nodes")
        faces = importlib.import_module(f"{pack}.portraittalk_core.face.identity.embedding")
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


NODE_CLASS_MAPPINGS = {
    "GiveFace": GiveFace,
    "PatchAttention": PatchAttention,
    "ShiftLandmarks": ShiftLandmarks,
    "GiveFloats": GiveFloats,
    "GiveEncodedAudio": GiveEncodedAudio,
    "GiveAudio": GiveAudio,
    "GiveFaceLandmarks": GiveFaceLandmarks,
}
