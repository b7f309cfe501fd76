"""Run by ComfyUI's own Python: denoised latents of a tiny SD1.5 through ComfyUI, for cases that a test wrote down.

python comfy_denoise.py COMFYUI PACK FOLDER: FOLDER holds unet.safetensors (diffusers' names), adapter.safetensors,
inputs.safetensors and cases.json; denoised.safetensors is written.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace


def main(comfyui: Path, pack: Path, folder: Path) -> None:
    sys.argv = ["main.py", "--cpu"]
    sys.path[:0] = [str(comfyui), str(pack.parent)]
    import comfy.options

    comfy.options.enable_args_parsing()
    from safetensors.torch import load_file, save_file

    unet_binding = importlib.import_module(f"{pack.name}.nodes.bindings.unet")
    gc.freeze()  # ComfyUI collects garbage for every model: a fifth of a second each, where modules are looked at too
    inputs = load_file(folder / "inputs.safetensors")
    latents, recorders = {}, {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        latents[name] = denoised(unet_binding, inputs, folder, case, recorders.setdefault(name, CallRecorder()))
    save_file(latents, folder / "denoised.safetensors")
    results = {"refused": refused(unet_binding), "painted": painted(folder, unet_binding)}
    results["rows"] = {name: recorder.rows for name, recorder in recorders.items()}
    results["refused"] |= refused_controls(unet_binding, folder)
    results["interrupted"] = interrupted(unet_binding, inputs, folder)
    results["cancelled"] = {str(keep): cancelled(folder, unet_binding, keep) for keep in (True, False)}
    results["nested"] = nested(folder, unet_binding)
    results["looked_back"] = looked_back(folder, unet_binding, inputs)
    (folder / "results.json").write_text(json.dumps(results))


def refused(unet_binding) -> dict[str, str]:
    """Error messages for MODELs that are not SD1.5, by case."""
    import comfy.supported_models as kinds

    configs = {
        "SDXL": kinds.SDXL({"in_channels": 4, "context_dim": 2048}),
        "SD2": kinds.SD20({"in_channels": 4, "context_dim": 1024}),
        "inpainting": kinds.SD15({"in_channels": 9, "context_dim": 768}),
        "pix2pix": kinds.SD15_instructpix2pix({"in_channels": 8, "context_dim": 768}),
        "width": kinds.SD15({"in_channels": 4, "context_dim": 1280}),
    }
    messages = {}
    for name, config in configs.items():
        try:
            unet_binding.check_sd15(SimpleNamespace(model=SimpleNamespace(model_config=config)))
        except ValueError as error:
            messages[name] = str(error)
    return messages


def refused_controls(unet_binding, folder: Path) -> dict[str, str]:
    """Error messages for CONTROL_NETs of other kinds, by case."""
    import comfy.controlnet
    import torch

    controls = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.control"))
    animates = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.animate"))
    nets = importlib.import_module(
        f"{unet_binding.__package__.replace('.nodes.bindings', '.portraittalk_core')}.renderers.animatenet.animate_net"
    )
    net = animates.managed_animate(
        nets.load_animate_net(folder / "animate_trained.safetensors", unet_binding.OPERATIONS)
    )

    def control(width: int):
        return comfy.controlnet.ControlNet(cldm(width), load_device=torch.device("cpu"))

    other = control(48)
    other.control_model.middle_block = torch.nn.Identity()
    calls = {
        "control SD2": lambda: controls.check_control_net(control(1024)),
        "control SDXL": lambda: controls.check_control_net(control(2048)),
        "adapter": lambda: controls.check_control_net(comfy.controlnet.T2IAdapter(None, 4, 8, "nearest-exact")),
        "animate alone": lambda: animates.check_animate(net, None),
        "animate wide": lambda: animates.check_animate(net, control(40)),
        "animate strange": lambda: animates.check_animate(net, other),
        "animate right": lambda: animates.check_animate(net, control(48)),
    }
    messages = {}
    for name, call in calls.items():
        try:
            call()
        except ValueError as error:
            messages[name] = str(error)
    return messages


def cldm(width: int):
    """ComfyUI's ControlNet, tiny, for text tokens of a width."""
    import comfy.cldm.cldm
    import comfy.ops
    import torch

    config = {
        "image_size": 8, "in_channels": 4, "model_channels": 32, "hint_channels": 3, "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4], "num_heads": 8, "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_middle": 1, "context_dim": width, "use_spatial_transformer": True, "legacy": False,
        "use_linear_in_transformer": False,
    }  # fmt: skip
    return comfy.cldm.cldm.ControlNet(**config, operations=comfy.ops.manual_cast, dtype=torch.float32)


class NoVae:
    """VAE stub whose decoder returns the first three latent channels."""

    def decode(self, latents):
        return latents[:, :3].movedim(1, -1)


def painted(folder: Path, unet_binding) -> dict:
    """Number of sampler runs and their result, where fp16 overflows, memory is full, or a weight is NaN."""
    import torch

    painters = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.painter"))
    sampling = painters.Sampling(seed=0, steps=2, cfg=1.0, sampler_name="euler", scheduler="normal", denoise=1.0)
    text = [[torch.randn(1, 7, 48), {}]]
    return {
        name: _paint_once(painters, tiny_model(folder, torch.float16), name, sampling, text)
        for name in ("sound", "overflow", "broken", "full", "too full")
    }


def looked_back(folder: Path, unet_binding, inputs) -> dict:
    """What a painter that looks back shows of two batches, one after the other, and how many frames it gives."""
    import torch

    painters = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.painter"))
    sampling = painters.Sampling(seed=0, steps=1, cfg=1.0, sampler_name="euler", scheduler="normal", denoise=1.0)
    text = [[torch.randn(1, 7, 48), {}]]
    painter = painters.ComfyPainter(
        tiny_model(folder), NoVae(), (text, text), sampling, 2, painters.Cursor(), looks_back=True
    )
    first = painter.paint_latents(inputs["x"][:2], None)
    shown = [painter.cursor.last.tolist()]
    second = painter.paint_latents(inputs["x"][:2], None, 2, first.latents)
    shown.append(painter.cursor.last.tolist())
    return {
        "shown": shown, "last": first.latents[-1:].tolist(), "frames": [len(first.frames), len(second.frames)],
        "overlap": painter.overlap,
    }  # fmt: skip


def _paint_once(painters, model, name: str, sampling, text) -> dict:
    import comfy.sample
    import torch

    network = model.model.diffusion_model
    if name == "broken":
        network.out[2].weight.data.fill_(float("nan"))
    if name == "overflow":  # beyond fp16 between two layers
        network.time_embed[0].weight.data.mul_(200.0)
        network.time_embed[0].bias.data.add_(60_000.0)
        network.time_embed[2].weight.data.fill_(1.0)
    runs, sample = [], comfy.sample.sample

    def counted(model, noise, *args, **options):
        runs.append(1)
        if len(noise) > {"full": 1, "too full": 0}.get(name, 99):
            raise torch.cuda.OutOfMemoryError("full")
        return sample(model, noise, *args, **options)

    comfy.sample.sample = counted
    try:
        painter = painters.ComfyPainter(model, NoVae(), (text, text), sampling, 2)
        result = painter.paint_latents(torch.zeros(2, 4, 8, 8), None)
        finite = bool(torch.isfinite(result.latents).all())
        return {"runs": len(runs), "finite": finite, "frames": len(result.frames), "batch": painter.batch}
    except ValueError as error:
        return {"runs": len(runs), "error": str(error)}
    finally:
        comfy.sample.sample = sample


class InterruptibleVae(NoVae):
    """VAE stub that asks for an interrupt in its layers, as newer ComfyUI's do."""

    decoded = 0

    def decode(self, latents):
        import comfy.model_management

        self.decoded += 1
        comfy.model_management.throw_exception_if_processing_interrupted()
        return super().decode(latents)


def cancelled(folder: Path, unet_binding, keep: bool) -> dict:
    """What becomes of a batch when Interrupt is pressed at its last step, seen by the progress bar."""
    import comfy.model_management as management
    import torch

    painters = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.painter"))
    sampling = painters.Sampling(seed=0, steps=2, cfg=1.0, sampler_name="euler", scheduler="normal", denoise=1.0)
    text, vae, steps = [[torch.randn(1, 7, 48), {}]], InterruptibleVae(), []

    def on_step(step: int, _: int) -> None:
        steps.append(step)
        if step == 2:
            management.interrupt_current_processing()
            management.throw_exception_if_processing_interrupted()

    painter = painters.ComfyPainter(tiny_model(folder), vae, (text, text), sampling, 2, keep=keep)
    try:
        frames = len(painter.paint_latents(torch.zeros(2, 4, 8, 8), on_step).frames)
    except management.InterruptProcessingException:
        frames = 0
    pending = management.processing_interrupted()
    management.interrupt_current_processing(False)
    return {"frames": frames, "decoded": vae.decoded, "pending": pending, "steps": steps}


def nested(folder: Path, unet_binding) -> list[list[int]]:
    """Frames that our windows of four name inside a window of another pack that names frames 30 to 36."""
    import comfy.patcher_extension as extension
    import torch

    motions = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.motion"))
    core = unet_binding.__package__.replace(".nodes.bindings", ".portraittalk_core")
    video = importlib.import_module(f"{core}.diffusion.windowed").VideoOptions("sliding", 4, 1)
    model, named = motions.with_windows(tiny_model(folder), video, 32), []

    def record(_inner, _conds, x, _timestep, model_options: dict) -> list:
        named.append(model_options["transformer_options"]["context_window"].index_list)
        return [x]

    (run,) = model.get_all_wrappers(extension.WrappersMP.CALC_COND_BATCH)
    window = SimpleNamespace(index_list=list(range(30, 37)))
    options = {**model.model_options, "transformer_options": {"context_window": window}}
    run(record, None, [[]], torch.zeros(7, 4, 8, 8), torch.zeros(7), options)
    return named


def tiny_model(folder: Path, dtype=None):
    """The MODEL of a folder's tiny UNet."""
    import comfy.utils
    from safetensors.torch import load_file

    model, config = empty_model(dtype)
    names = comfy.utils.unet_to_diffusers(config)
    tensors = load_file(folder / "unet.safetensors")
    model.model.diffusion_model.load_state_dict({names[name]: tensor for name, tensor in tensors.items()})
    return model


def empty_model(dtype=None):
    """A MODEL of SD1.5's kind whose tiny UNet has no weights yet, and the UNet's sizes."""
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    config = {
        "in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2, 4, 4], "num_heads": 8,
        "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "num_head_channels": -1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
        "context_dim": 48, "image_size": 8, "use_spatial_transformer": True, "legacy": False,
        "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False,
    }  # fmt: skip
    settings = comfy.supported_models.SD15(dict(config))
    settings.set_inference_dtype(dtype or torch.float32, None)
    model = settings.get_model({}, "")
    model.diffusion_model.eval()
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu), config


class CallRecorder:
    """Recorder of the last ControlNet and of the batch size of each call."""

    def __init__(self) -> None:
        self.network, self.rows = None, []

    def attach(self, network, fail: bool) -> None:
        def note(_, __, inputs: dict) -> None:
            self.rows.append(len(inputs["x"]))

        def stop(*_) -> None:
            raise InterruptedError

        self.network = network
        network.register_forward_pre_hook(note, with_kwargs=True)
        if fail:
            network.middle_block.register_forward_pre_hook(stop)

    @property
    def hooks(self) -> int:
        """Number of hooks in the network, and of its modules with a replaced forward."""
        modules = list(self.network.modules())
        hanging = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
        return hanging + sum("forward" in vars(module) for module in modules)


def interrupted(unet_binding, inputs, folder: Path) -> dict:
    """Hooks left in a ControlNet whose run was interrupted."""
    control = {"strengths": [0.7], "animate": {"file": "trained"}, "fail": True}
    recorder = CallRecorder()
    try:
        denoised(unet_binding, inputs, folder, {"sigma": 1.0, "cfg": 3.5, "identity": [], "control": control}, recorder)
    except InterruptedError:
        return {"stopped": True, "hooks": recorder.hooks}
    return {"stopped": False}


def denoised(unet_binding, inputs, folder: Path, case: dict, recorder: CallRecorder):
    import comfy.samplers
    import torch

    dtype = getattr(torch, case.get("dtype", "float32"))
    model = with_identity(unet_binding, tiny_model(folder, dtype), folder, inputs["tokens"], case)
    texts = [[inputs["positive"], {}]], [[inputs[case.get("negative", "negative")], {}]]
    if case.get("control"):
        texts, model = controlled(unet_binding, folder, texts, model, case["control"], inputs, recorder)
    if case.get("style"):
        model = styled(unet_binding, folder, model, case["style"], inputs)
    if case.get("window"):
        model = in_windows(model)
    if case.get("motion"):
        model = moved(unet_binding, folder, model, case["motion"])

    class OneCall(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
            for sigma in case.get("sigmas", [case["sigma"]]):
                out = model_wrap(noise * (sigma / case["sigma"]), noise.new_full((len(noise),), sigma), **extra_args)
            return out

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*texts)
    guider.set_cfg(case["cfg"])
    x = inputs[case.get("x", "x")]
    sigmas = torch.tensor([case["sigma"], 0.0])
    out = guider.sample(x, torch.zeros_like(x), OneCall(), sigmas, seed=0)
    return (out * 0.18215).contiguous()  # ComfyUI hands latents out unscaled


def hints_of(frames, height: int, width: int):
    """A hint picture for every frame: its number as a shade, and a stripe."""
    import torch

    hints = torch.stack([torch.full((3, height, width), 0.02 * frame) for frame in frames])
    hints[:, :, 10:14] = 1.0
    return hints


def everywhere(weight: float | None):
    """Maps of one factor; None for none."""
    import torch

    return None if weight is None else lambda frames, h, w: torch.full((len(frames), 1, h, w), weight)


def track_of(core: str, points):
    """A track of points on a picture of 400 by 400."""
    from fractions import Fraction

    import torch

    kind = importlib.import_module(f"{core}.types").LandmarkTrack
    return kind(points, torch.ones(len(points), dtype=torch.bool), Fraction(25), 400, 400)


def animated(unet_binding, folder: Path, case: dict, points, cursor):
    """A tiny AnimateNet of a file, bound to a track; one that looks back sees `cursor`'s last frame."""
    core = unet_binding.__package__.replace(".nodes.bindings", ".portraittalk_core")
    animates = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.animate"))
    nets = importlib.import_module(f"{core}.renderers.animatenet.animate_net")
    net = nets.load_animate_net(folder / f"animate_{case['file']}.safetensors", unet_binding.OPERATIONS)
    track = track_of(core, points)
    if case.get("follow"):
        track = animates.rate_limited(track)
    options = nets.AnimateOptions(*case.get("tokens", (1.0, 1.0)))
    return animates, animates.BoundAnimate(animates.managed_animate(net), track, options, cursor=cursor)


def caching_net(network, load_device):
    """A CONTROL_NET that keeps its pictures in a cache by their size and takes none from outside.

    As a proposed change of ComfyUI does (its pull request 15832).
    """
    import comfy.controlnet

    class CachingNet(comfy.controlnet.ControlNet):
        def __init__(self, *args, **options) -> None:
            super().__init__(*args, **options)
            self.pictures = {}

        def get_control(self, x_noisy, *args):
            size = tuple(x_noisy.shape[2:])
            self.cond_hint = self.pictures.setdefault(size, self.cond_hint_original).to(x_noisy)
            return super().get_control(x_noisy, *args)

        def copy(self):
            copied = CachingNet(None, load_device=self.load_device)
            copied.control_model, copied.control_model_wrapped = self.control_model, self.control_model_wrapped
            self.copy_to(copied)
            return copied

    return CachingNet(network, load_device=load_device)


def controlled(unet_binding, folder: Path, texts, model, case: dict, inputs, recorder: CallRecorder):
    """Both conditionings with tiny ControlNets, one for each strength, and the MODEL with feature attention."""
    import comfy.controlnet
    import torch
    from safetensors.torch import load_file

    controls = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.control"))
    network = cldm(48)
    names = {name.removeprefix("control_model."): t for name, t in load_file(folder / "control.safetensors").items()}
    network.load_state_dict(names)
    recorder.attach(network, case.get("fail", False))
    cpu, animate = torch.device("cpu"), None
    cursor = controls.Cursor(case.get("first", 0), inputs["last"])
    if case.get("animate"):
        animates, animate = animated(unet_binding, folder, case["animate"], inputs["points"], cursor)
        model = animates.with_features(model, animate.patcher, animate.features, case["animate"].get("features", 0.0))
    for strength in case["strengths"]:
        net = comfy.controlnet.ControlNet(network, load_device=cpu)
        if case.get("caching"):
            net = caching_net(network, cpu)
        if case.get("lora"):
            net = comfy.controlnet.ControlLora({**network.state_dict(), "lora_controlnet": torch.zeros(0)})
        if case.get("stock"):
            net.set_cond_hint(hints_of(range(case["stock"]), 64, 64), strength, (0.0, 1.0))
            texts = [[[t, {**o, "control": net.copy().set_previous_controlnet(o.get("control"))}] for t, o in text]
                     for text in texts]  # fmt: skip
            continue
        control = controls.ComfyFrameControl(
            net, hints_of, cursor, strength, maps=everywhere(case.get("weight")), animate=animate,
            reuse_every=case.get("reuse_every", 1),
        )  # fmt: skip
        texts = controls.with_control(texts, control)
    return texts, model


def styled(unet_binding, folder: Path, model, case: dict, inputs):
    """The MODEL with style attention to the styles of `inputs`: one for every frame, or the first for all."""
    core = unet_binding.__package__.replace(".nodes.bindings", ".portraittalk_core")
    binding = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.style"))
    cursors = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.cursor"))
    projection = importlib.import_module(f"{core}.style.projection")
    frames = importlib.import_module(f"{core}.style.attention").FrameStyles
    net = projection.load_style_attention(folder / f"style_{case['file']}.safetensors", unet_binding.OPERATIONS)
    count = len(inputs["styles"]) if case.get("frames") else 1
    styles = frames(inputs["styles"][:count], case.get("strength", 1.0) * inputs["style_strengths"][:count])
    cursor = cursors.Cursor(case.get("first", 0))
    return binding.with_style(model, binding.managed_style(net), styles, cursor)


def moved(unet_binding, folder: Path, model, case: dict):
    """The MODEL with tiny motion modules, in windows of our own."""
    core = unet_binding.__package__.replace(".nodes.bindings", ".portraittalk_core")
    motions = importlib.import_module(unet_binding.__name__.replace("bindings.unet", "bindings.motion"))
    temporal = importlib.import_module(f"{core}.diffusion.motion_modules")
    options = importlib.import_module(f"{core}.diffusion.windowed").VideoOptions("sliding", **case["windows"])
    modules = temporal.load_motion_modules(folder / "motion.safetensors", unet_binding.OPERATIONS, None)
    moving = motions.with_motion(model, motions.managed_motion(modules), case["strength"])
    return motions.with_windows(moving, options, modules.length) if case["strength"] else moving


def in_windows(model):
    """The MODEL denoised in ComfyUI's own windows of eight frames."""
    from comfy import context_windows as windows

    class Handler(windows.IndexListContextHandler):
        def set_step(self, *_):
            """0.3.64 compares every frame's sigma with every step's here, which only fits one frame."""

    handler = Handler(
        windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        windows.get_matching_fuse_method(windows.ContextFuseMethods.PYRAMID),
        context_length=8,
        context_overlap=2,
    )
    clone = model.clone()
    clone.model_options["context_handler"] = handler
    return clone


def with_identity(unet_binding, model, folder: Path, tokens, case: dict):
    core = unet_binding.__package__.replace(".nodes.bindings", ".portraittalk_core")
    adapters = importlib.import_module(f"{core}.renderers.identitynet.adapter")
    bound = unet_binding.managed(
        adapters.load_adapter(folder / "adapter.safetensors", ops=unet_binding.OPERATIONS),
        "adapter",
        None if case.get("lora") else {},
    )
    if case.get("lora") == "twice":
        import comfy.sd

        model = comfy.sd.load_lora_for_models(model, None, bound.lora, 1.0, 0)[0]
    for options in case["identity"]:
        layers = {int(k): v for k, v in options.pop("layers", {}).items()}
        model = unet_binding.bind_identity(model, bound, tokens, adapters.IdentityOptions(layers=layers, **options))
    if case.get("foreign"):
        add_foreign(model, case["foreign"])
    if case.get("misplaced"):
        slots = model.model_options["transformer_options"]["patches_replace"]["attn2"]
        slots[("middle", 1)] = slots.pop(("middle", 0))
    return model.clone() if case.get("clone") else model


def add_foreign(model, how: str) -> None:
    """Add an IPAdapter-like callback of another pack to our slot."""

    def callback(out, q, k, v, extra_options, **kwargs):
        return 0.5 * q

    slots = model.model_options["transformer_options"]["patches_replace"]["attn2"]
    if how == "guest":
        slots[("input", 1)].add(callback, sigma_start=999.0, sigma_end=0.0)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
