import dataclasses

import pytest
import torch
from adapter_files import adapter_tensors
from PIL import Image
from toy_faces import PEOPLE, FixedTexts, PatchCodec, pretrain, toy_data

from portraittalk_core.diffusion.branches import bind
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.errors import InputError
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.layers.attention import NEGATIVE, POSITIVE
from portraittalk_core.renderers.identitynet.adapter import (
    IdentityOptions,
    build_adapter,
    identity_branches,
    load_adapter,
)
from portraittalk_core.renderers.identitynet.adapter_files import sort_adapter
from portraittalk_core.renderers.identitynet.adapter_lora import kohya_lora
from portraittalk_core.training.identitynet.config import IdentityTraining
from portraittalk_core.training.identitynet.stage import FrozenParts, IdentityStage, dropped, fresh_adapter
from portraittalk_core.training.loop.config import Clock, TrainerConfig
from portraittalk_core.training.loop.trainer import step_generator, train_stage
from portraittalk_core.weights.load import read_metadata, read_tensors

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")

MASKS = (0.75, 1.0)  # so little is left to see that it is the embedding that tells who it is
QUICK = TrainerConfig(
    steps=6, batch_size=2, gradient_accumulation=2, learning_rate=5e-3, ema_decay=0.9, save_every=2, sample_every=4
)


def toy_config(out, trainer=QUICK, **changes) -> IdentityTraining:
    return IdentityTraining(out, out, out, resolution=64, mask_ratio=MASKS, trainer=trainer, **changes)


def toy_unet(seed: int = 0, widths: tuple[int, ...] = (32, 64, 128, 128)):
    torch.manual_seed(seed)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=widths,
        cross_attention_dim=48,
        attention_head_dim=8,
        norm_num_groups=8,
    ).eval()


def toy_parts(unet=None) -> FrozenParts:
    return FrozenParts(unet or toy_unet(), PatchCodec(), FixedTexts())


def content(network: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


@torch.no_grad()
def held_out_loss(parts, adapter, config, whose="own", batches=6, size=16) -> float:
    """On pictures, embeddings, masks and noise that training has not seen; nothing is dropped."""
    data = toy_data(20, 32)
    stage = IdentityStage(
        parts, adapter, data, dataclasses.replace(config, drop_image=0.0, drop_text=0.0, drop_both=0.0)
    )
    losses = []
    with stage:
        for number in range(batches):
            batch = data.batch(number, size, 99, 64)
            people = [data.pictures[index].person for index in batch.indices]
            if whose == "other":
                strangers = [data.of({"anna": "bruno", "bruno": "anna"}[person])[0] for person in people]
                batch = dataclasses.replace(batch, face_embeds=data.at(strangers, 64).face_embeds)
            elif whose == "none":
                batch = dataclasses.replace(batch, face_embeds=torch.zeros_like(batch.face_embeds))
            losses.append(float(stage.loss(batch, step_generator(777, number))[0]))
    return sum(losses) / len(losses)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A frozen UNet that knows both people but not whom it is shown, and an adapter that has learnt to tell it."""
    out = tmp_path_factory.mktemp("toy")
    config = toy_config(
        out,
        TrainerConfig(
            steps=150,
            batch_size=8,
            gradient_accumulation=1,
            learning_rate=1e-2,
            ema_decay=0.9,
            save_every=1000,
            sample_every=0,
        ),
    )
    unet = toy_unet(widths=(32, 32, 32, 32))  # four times as quick as the default
    pretrain(unet, 120, MASKS)
    parts, adapter, before = toy_parts(unet), fresh_adapter(unet, 0), content(unet)
    losses = {"start": held_out_loss(parts, adapter, config)}
    with IdentityStage(parts, adapter, toy_data(10, 64), config) as stage:
        result = train_stage(stage, config.trainer, out)
        stage.export(result.averages, out / "adapter.safetensors", {"steps": "150"})
    losses |= {whose: held_out_loss(parts, adapter, config, whose) for whose in ("own", "other", "none")}
    return parts, adapter, out / "adapter.safetensors", losses, before


def test_an_epoch_shows_every_picture_once(tmp_path):
    stage = IdentityStage(toy_parts(), fresh_adapter(toy_unet(), 0), toy_data(10, 5), toy_config(tmp_path))
    steps = Clock.of(QUICK, stage.num_samples()).epoch_steps
    shown = [index for step in range(1, steps + 1) for part in range(2) for index in stage.batch(step, part).indices]
    assert sorted(shown[:10]) == list(range(10))
    assert len(shown) == 12


@pytest.mark.slow
def test_the_adapter_learns_who_is_who(learnt):
    losses = learnt[3]
    assert losses["own"] <= 0.7 * losses["start"]  # after 130 steps, seeds 0 and 1: 0.70, 0.66 of it
    assert losses["other"] >= 1.5 * losses["start"]  # the wrong face misleads: it is not mere practice that helped
    assert 0.85 * losses["start"] <= losses["none"] <= 1.3 * losses["start"]


@pytest.mark.slow
def test_no_frozen_weight_changes(learnt):
    parts, _, _, _, before = learnt
    assert content(parts.unet) == before
    assert not any(p.requires_grad for p in parts.unet.parameters())


@pytest.mark.slow
def test_the_exported_file_is_what_was_learnt(learnt):
    parts, adapter, path, losses, _ = learnt
    loaded = load_adapter(path)
    assert loaded.layout == "faceid" and not loaded.lora
    assert {k: v for k, v in read_metadata(path).items() if k != "format"} == {
        "layout": "faceid",
        "base": "SD1.5",
        "steps": "150",
    }
    assert content(loaded) == content(adapter)
    assert held_out_loss(parts, loaded, toy_config(path.parent)) == pytest.approx(losses["own"], rel=1e-6)


@pytest.mark.slow
def test_a_drawn_face_has_its_persons_colours(learnt):
    parts, adapter, path, _, _ = learnt
    data = toy_data(30, 4)
    with IdentityStage(parts, adapter, data, toy_config(path.parent)) as stage:
        batch = data.at([data.of("anna")[0], data.of("bruno")[0]], 64)
        drawn = stage.draw(batch.face_embeds, seed=1)[:, :, 24:48, 24:40].mean((2, 3))
    for row, person in enumerate(PEOPLE):
        skins = torch.stack([(drawn[row] - torch.tensor(one.skin)).norm() for one in PEOPLE])
        assert int(skins.argmin()) == PEOPLE.index(person)


# --- what a run does step by step: random weights, a few steps


def run(out, stop_after=None, **changes):
    config = toy_config(out, **changes)
    unet = toy_unet(widths=(32, 64, 64, 64))
    parts, before = toy_parts(unet), content(unet)

    def on_progress(done, total):
        if done == stop_after:
            raise KeyboardInterrupt

    with IdentityStage(parts, fresh_adapter(unet, 0), toy_data(10, 3), config) as stage:
        result = train_stage(stage, config.trainer, out, on_progress)
        path = stage.export(result.averages, out / "adapter.safetensors", {})
    assert content(unet) == before
    return stage, result, path


@pytest.mark.slow
@pytest.mark.parametrize("train_lora", [False, True])
def test_resume_is_bit_exact(tmp_path, train_lora):
    options = {"train_lora": train_lora, "rank": 4, "cache_latents": train_lora}
    whole, _, first = run(tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_after=5, **options)
    again, result, second = run(tmp_path / "cut", **options)
    assert result.resumed_from == 4
    one, two = read_tensors(first), read_tensors(second)  # the order of metadata in a file is chance
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    moved = fresh_adapter(whole.parts.unet, 0).state_dict()
    for name, weight in whole.trainable().items():
        assert torch.equal(weight, again.trainable()[name])
        assert name.startswith("lora.") or not torch.equal(weight, moved[name])
    assert len(whole.trainable()) == 6 + 32 + 256 * train_lora
    picture = Image.open(result.samples[-1] if result.samples else tmp_path / "cut/samples/step_00000004.png")
    assert picture.size == (128, 128)  # two people, each above what was drawn of them


def test_only_what_is_to_be_trained_gets_gradients(tmp_path):
    unet = toy_unet()
    for train_lora in (False, True):
        config = toy_config(tmp_path, train_lora=train_lora, rank=2)
        with IdentityStage(toy_parts(unet), fresh_adapter(unet, 0), toy_data(10, 2), config) as stage:
            for name, parameter in stage.trainable().items():  # away from zero, where some gradients vanish
                torch.nn.init.normal_(parameter, 0 if "norm.weight" not in name else 1, 0.1)
            stage.loss(stage.batch(1, 0), step_generator(0, 1))[0].backward()
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stage.trainable().values())
        assert all(p.grad is None for p in unet.parameters())


@pytest.mark.slow
def test_training_runs_in_half_precision(tmp_path):
    trainer = dataclasses.replace(QUICK, mixed_precision="bf16", steps=2, sample_every=2)
    config = toy_config(tmp_path, trainer, train_lora=True, rank=2)
    with IdentityStage(toy_parts(), fresh_adapter(toy_unet(), 0), toy_data(10, 2), config) as stage:
        result = train_stage(stage, trainer, tmp_path)
        assert stage.parts.unet.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in stage.trainable().values())
    assert result.samples[0].is_file()


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    grads = []
    for saving in (False, True):
        unet = toy_unet()
        config = toy_config(tmp_path, gradient_checkpointing=saving)
        with IdentityStage(toy_parts(unet), fresh_adapter(unet, 0), toy_data(10, 2), config) as stage:
            torch.nn.init.normal_(stage.adapter.sites["31"].to_v_ip.weight, generator=step_generator(0, 0))
            stage.loss(stage.batch(1, 0), step_generator(0, 1))[0].backward()
            grads.append({name: p.grad for name, p in stage.trainable().items()})
        assert unet.is_gradient_checkpointing == saving
    assert all(torch.allclose(grads[0][name], grads[1][name], atol=1e-6) for name in grads[0])


def test_every_row_has_its_own_face(tmp_path):
    """A batch of two people gives each the noise that it gets alone."""
    unet = toy_unet()
    data = toy_data(10, 2)
    with IdentityStage(toy_parts(unet), random_adapter(), data, toy_config(tmp_path)) as stage, torch.no_grad():
        faces = data.at([0, 2], 64).face_embeds
        latents = torch.randn(1, 4, 8, 8, generator=step_generator(0, 0)).expand(2, -1, -1, -1)
        level, text = torch.tensor([500, 500]), FixedTexts().tokens(["", ""])
        both = stage._noise(latents, level, text, faces)
        alone = [stage._noise(latents[:1], level[:1], text[:1], faces[i : i + 1]) for i in range(2)]
    assert torch.allclose(both, torch.cat(alone), atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 0.01


def random_adapter(layout: str = "faceid", lora: bool = False):
    made = adapter_tensors(layout)
    flat = {f"{part}.{name}": tensor for part, of in made.items() for name, tensor in of.items()}
    return build_adapter(sort_adapter({n: t for n, t in flat.items() if lora or "_lora." not in n}, layout), layout)


@pytest.mark.parametrize("lora", [False, True])
def test_training_sees_what_inference_draws(tmp_path, lora):
    """The branch and the LoRA of training against the inference branch and weights with the LoRA added by hand."""
    adapter, data = random_adapter(lora=lora), toy_data(10, 1)
    assert bool(adapter.lora) == lora
    face = data.at([0], 64).face_embeds
    latents = torch.randn(2, 4, 8, 8, generator=step_generator(0, 0))
    level, text = torch.tensor([400, 400]), FixedTexts().tokens(["", ""])
    with IdentityStage(toy_parts(), adapter, data, toy_config(tmp_path)) as stage, torch.no_grad():
        trained = stage._noise(latents, level, text, torch.cat([face, torch.zeros(1, 512)]))
    unet = toy_unet()
    changes = kohya_lora(adapter.lora)
    with torch.no_grad():
        for name, layer in unet.named_modules():
            up = changes.get(f"lora_unet_{name.replace('.', '_')}.lora_up.weight")
            if up is not None:
                layer.weight += up @ changes[f"lora_unet_{name.replace('.', '_')}.lora_down.weight"]
    tokens = adapter.tokens(FaceEmbedding(face))
    branches = identity_branches(adapter, tokens, [site.adapter_key for site in SITES], IdentityOptions())
    with bind(unet, {index: [branch] for index, branch in branches.items()}) as batch, torch.no_grad():
        batch.labels = (POSITIVE, NEGATIVE)
        expected = unet(latents, level, text).sample
        plain = toy_unet()(latents, level, text).sample
    assert torch.allclose(trained, expected, atol=1e-4)
    assert (trained - plain).abs().max() > 0.05


def test_the_unet_is_left_as_it_was(tmp_path):
    unet = toy_unet()
    latents, level, text = torch.randn(1, 4, 8, 8), torch.tensor([10]), FixedTexts().tokens([""])
    with torch.no_grad():
        before = unet(latents, level, text).sample
        with IdentityStage(toy_parts(unet), random_adapter(lora=True), toy_data(10, 1), toy_config(tmp_path)):
            pass
        assert torch.equal(unet(latents, level, text).sample, before)


def test_modes_start_alike_where_nothing_is_hidden(tmp_path):
    unet, losses = toy_unet(), []
    for mode in ("paper", "reconstruct"):
        config = dataclasses.replace(toy_config(tmp_path), mask_ratio=(0.0, 0.0), mode=mode, snr_limit=0.0)
        with IdentityStage(toy_parts(unet), fresh_adapter(unet, 0), toy_data(10, 2), config) as stage, torch.no_grad():
            losses.append(float(stage.loss(stage.batch(1, 0), step_generator(0, 1))[0]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_drops_have_their_shares(tmp_path):
    config = toy_config(tmp_path, drop_image=0.05, drop_text=0.1, drop_both=0.2)
    image, text = dropped(torch.rand(200_000, generator=step_generator(0, 0)), config)
    for found, expected in ((image & ~text, 0.05), (text & ~image, 0.1), (image & text, 0.2)):
        assert float(found.float().mean()) == pytest.approx(expected, abs=0.003)


def test_a_dropped_face_is_the_projection_of_zeros(tmp_path):
    config = toy_config(tmp_path, drop_image=1.0, drop_text=0.0, drop_both=0.0)
    with IdentityStage(toy_parts(), random_adapter(), toy_data(10, 2), config) as stage, torch.no_grad():
        one, two = stage.batch(1, 0), stage.batch(1, 0)
        two = dataclasses.replace(two, face_embeds=two.face_embeds.flip(0))
        assert torch.equal(stage.loss(one, step_generator(0, 1))[0], stage.loss(two, step_generator(0, 1))[0])
        none = stage.adapter.tokens(FaceEmbedding(one.face_embeds))[1]
        assert torch.allclose(stage._faces.tokens, none.expand_as(stage._faces.tokens), atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "train_lora", "told"),
    [("plus", False, "plus adapters cannot be trained"), ("portrait", True, "portrait has no LoRA")],
)
def test_what_cannot_be_trained_is_refused(tmp_path, layout, train_lora, told):
    tensors = adapter_tensors(layout, num_tokens=16 if layout == "portrait" else 4)
    flat = {f"{part}.{name}": tensor for part, of in tensors.items() for name, tensor in of.items()}
    adapter = build_adapter(sort_adapter(flat, layout), layout)
    with pytest.raises(InputError, match=told):
        IdentityStage(toy_parts(), adapter, toy_data(10, 1), toy_config(tmp_path, train_lora=train_lora))


def test_resume_refuses_another_config_and_other_data(tmp_path):
    run(tmp_path, trainer=dataclasses.replace(QUICK, steps=2, sample_every=0))
    with pytest.raises(InputError, match="mode was 'reconstruct', is 'paper'"):
        run(tmp_path, trainer=QUICK, mode="paper")
    config = toy_config(tmp_path)
    with (
        IdentityStage(toy_parts(), fresh_adapter(toy_unet(), 0), toy_data(11, 3), config) as stage,
        pytest.raises(InputError, match="data was"),
    ):
        train_stage(stage, config.trainer, tmp_path)
