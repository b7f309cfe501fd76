"""IdentityNet nodes: loading an identity adapter, and sampling SD1.5 frames with a face's identity."""

from __future__ import annotations

from comfy_api.latest import io

from ..portraittalk_core.motion.options import MotionOptions
from ..portraittalk_core.renderers.identitynet.options import PRESETS, IdentityNetOptions
from .bindings import paths
from .sockets import AnimateControl, FaceEmbedding, IdentityAdapter, Landmarks, Style, advanced, schema
from .widgets import ai_mark_widget, crf_widget, keep_frames_widget, marked, widget

INSIDE, NO_LORA = "of the adapter", "none"
LAYOUTS = ["auto", "plus", "plusv2"]


class LoadIdentityAdapter(io.ComfyNode):
    """Node that loads an identity adapter from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkLoadIdentityAdapter",
            display_name="Load Identity Adapter",
            description="Opens an IP-Adapter FaceID file for SD1.5, or one that you trained, from models/ipadapter.",
            search_aliases=["IPAdapter", "FaceID", "ip-adapter-faceid"],
            inputs=[
                io.Combo.Input(
                    "adapter", options=paths.weight_names(paths.ADAPTERS),
                    tooltip="FaceID, portrait, plus, plusv2 or plain IP-Adapter for SD1.5, known by its content.",
                ),
                io.Combo.Input(
                    "lora", options=[INSIDE, NO_LORA, *paths.lora_names()], default=INSIDE,
                    tooltip="The LoRA that belongs to FaceID: inside the adapter, or its companion file. Never both.",
                ),
                io.Float.Input(
                    "lora_strength", default=1.0, min=-2.0, max=2.0, step=0.01,
                    tooltip="How strongly that LoRA acts; 0.6 to 1 are usual.",
                ),
                advanced(
                    io.Combo.Input(
                        "layout", options=LAYOUTS, default="auto", optional=True,
                        tooltip="plus and plusv2 files look alike: auto goes by the file's name.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "structure", default=1.0, min=0.0, max=3.0, step=0.05, optional=True,
                        tooltip="plusv2 only: how much of CLIP's view of the face is added.",
                    )
                ),
            ],
            outputs=[
                IdentityAdapter.Output("adapter_out", display_name="adapter", tooltip="For IdentityNet Sampler."),
                io.String.Output("name", display_name="name", tooltip="What kind of adapter the file holds."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, adapter, lora) -> bool | str:
        """Accept files that appeared after the list was made."""
        return paths.validated(lambda: _adapter_files(adapter, lora))

    @classmethod
    def fingerprint_inputs(cls, adapter, lora, **other_inputs) -> str:
        """Read again when a file has changed."""
        return paths.fingerprint(_adapter_files(adapter, lora), other_inputs)

    @classmethod
    def execute(cls, adapter, lora, lora_strength, layout="auto", structure=1.0) -> io.NodeOutput:
        """Open the adapter and put it under ComfyUI's memory management."""
        from ..portraittalk_core.renderers.identitynet.adapter import load_adapter
        from .bindings import unet as comfy_unet

        path, companion = _adapter_files(adapter, lora)
        opened = load_adapter(path, None if layout == "auto" else layout, comfy_unet.OPERATIONS)
        opened.set_structure(structure)
        lora_tensors = {} if lora == NO_LORA else None if companion is None else comfy_unet.read_lora(companion)
        return io.NodeOutput(comfy_unet.managed(opened, path.name, lora_tensors, lora_strength), opened.layout)


class IdentityNetSampler(io.ComfyNode):
    """Node that samples the frames of a moving portrait with SD1.5 and an identity adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        from .bindings.painter import SAMPLERS, SCHEDULERS

        balanced = PRESETS["balanced"]
        return schema(
            node_id="PortraitTalkIdentityNetSampler",
            display_name="IdentityNet Sampler",
            description="Paints every frame with your own SD1.5 checkpoint, with this very face. With landmarks the "
            "frames are the portrait, warped to them; with a latent they are whatever it holds. Any length.",
            search_aliases=["talking head", "KSampler", "FaceID", "img2img video"],
            inputs=[
                io.Model.Input("model", tooltip="An SD1.5 checkpoint, with any LoRA and patches."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Conditioning.Input("positive", tooltip="What the frames are to show."),
                io.Conditioning.Input("negative", tooltip="What they are not to show."),
                FaceEmbedding.Input("face_embedding", optional=True, tooltip="Whose face it is."),
                IdentityAdapter.Input("adapter", optional=True, tooltip="What brings the face into the checkpoint."),
                AnimateControl.Input(
                    "control", optional=True, tooltip="What holds frames to the landmarks and together over time."
                ),
                Landmarks.Input("landmarks", optional=True, tooltip="Where the face goes, frame by frame."),
                io.Image.Input("portrait", optional=True, tooltip="The picture that is to move to the landmarks."),
                io.Latent.Input("latent", optional=True, tooltip="Frames to paint, instead of landmarks."),
                io.Audio.Input("audio", optional=True, tooltip="The sound of the video, in its own quality."),
                widget(IdentityNetOptions, "seed", tooltip="Another seed begins with other noise."),
                widget(
                    IdentityNetOptions, "steps", default=balanced["steps"], max=200,
                    tooltip="Steps of denoising for every frame.",
                ),
                widget(
                    IdentityNetOptions, "cfg", default=balanced["cfg"], max=30, step=0.1,
                    tooltip="How strictly the text is followed.",
                ),
                io.Combo.Input("sampler_name", options=SAMPLERS, tooltip="As in KSampler."),
                io.Combo.Input("scheduler", options=SCHEDULERS, tooltip="As in KSampler."),
                widget(
                    IdentityNetOptions, "denoise", step=0.01,
                    tooltip="0 gives the warped portrait back, 0.3 to 0.6 paint mouth and skin anew, 1 everything.",
                ),
                widget(
                    IdentityNetOptions, "identity_strength", step=0.01,
                    tooltip="How strongly the face acts; 0 is the plain checkpoint.",
                ),
                widget(IdentityNetOptions, "width", step=8, tooltip="Width in pixels of frames from landmarks."),
                widget(IdentityNetOptions, "height", step=8, tooltip="Height in pixels of frames from landmarks."),
                keep_frames_widget("IMAGE and LATENT"),
                *_advanced_inputs(),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="All frames, or the first (keep_frames)."),
                io.Video.Output("video", display_name="video", tooltip="The video with its sound, for Save Video."),
                io.Latent.Output("latents", display_name="latent", tooltip="The latent; of denoise 0 the last frame."),
                io.Image.Output("last_frame", display_name="last_frame", tooltip="The last frame, to go on from."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt], has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    @marked
    def execute(cls, model, vae, positive, negative, keep_frames, **inputs) -> io.NodeOutput:
        """Bind the adapter, sample the frames, write the video, and return the outputs."""
        from .bindings.identity_run import SamplerInputs, run

        sampler_inputs = SamplerInputs(**inputs)
        result = run(model, vae, (positive, negative), sampler_inputs, keep_frames, cls.hidden)
        return io.NodeOutput(*result.outputs, ui=result.ui)


def _advanced_inputs() -> list[io.Input]:
    from ..portraittalk_core.renderers.identitynet.adapter import IdentityOptions

    return [
        widget(IdentityOptions, "start", id="start_percent", optional=True),
        widget(IdentityOptions, "end", id="end_percent", optional=True),
        widget(IdentityOptions, "combine", optional=True),
        advanced(
            io.String.Input(
                "layer_weights", default="", optional=True,
                tooltip="Factors for single attention layers, such as 6: 0, 13: 1.5 (0 to 15, in the order they run).",
            )
        ),
        advanced(
            io.Int.Input(
                "batch_size", default=0, min=0, max=64, optional=True,
                tooltip="Frames painted at once; 0 is as many as the free memory holds.",
            )
        ),
        advanced(
            widget(
                MotionOptions, "fps", optional=True,
                tooltip="Frames per second where the frames come from a latent; landmarks know their own.",
            )
        ),
        crf_widget(optional=True),
        advanced(
            io.Boolean.Input(
                "resume", default=True, optional=True,
                tooltip="Keep finished sections on disk until the video is whole: a job that was stopped goes on.",
            )
        ),
        Style.Input(
            "style", optional=True,
            tooltip="How the person speaks, from StylePrior; acts where a style attention was chosen there.",
        ),
        ai_mark_widget(),
        io.Mask.Input(
            "mask", optional=True,
            tooltip="What is painted, of the portrait or the frames: 1 anew, 0 stays, between is mixed; one for all "
            "frames or one for each. None: all, or what the latent's own mask says.",
        ),
    ]  # fmt: skip


def _adapter_files(adapter, lora):
    """Paths of the adapter and of a companion LoRA, if one is chosen."""
    companion = None if lora in (INSIDE, NO_LORA) else paths.lora_path(lora)
    return paths.weight_path(paths.ADAPTERS, adapter), companion
