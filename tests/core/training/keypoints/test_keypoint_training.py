import dataclasses
import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from toy_puppet import puppet_clip, write_prepared

from portraittalk_core.errors import InputError
from portraittalk_core.face.topology import LIPS
from portraittalk_core.renderers.implicit.blocks import coordinate_grid
from portraittalk_core.renderers.implicit.files import open_keypoint_model
from portraittalk_core.training.keypoints.config import (
    KeypointTrainer,
    KeypointTraining,
    LossWeights,
    load_keypoint_config,
)
from portraittalk_core.training.keypoints.data import FramePairs
from portraittalk_core.training.keypoints.networks import new_renderer, plain_renderer, rotations, start_from
from portraittalk_core.training.keypoints.picture_losses import PictureLosses, pixel_loss, regions_of
from portraittalk_core.training.keypoints.stage import (
    KeypointStage,
    flow_loss,
    guide_loss,
    reenact,
    train_keypoints,
    with_averages,
)
from portraittalk_core.training.loop.checkpoints import load_checkpoint
from portraittalk_core.training.loop.stage import StepContext

pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = KeypointTrainer(steps=4, batch_size=2, learning_rate=1e-3, save_every=2, sample_every=4)
WEIGHTS = LossWeights(perceptual=0.0, pixels=10.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("clips"), ["a"])


def config(clips, out, weights=WEIGHTS, **changes):
    sizes = {"size": "tiny", "resolution": 64, "scales": 2, "discriminator_width": 4, "discriminator_scales": 1}
    return KeypointTraining(clips, out, weights=weights, trainer=dataclasses.replace(QUICK, **changes), **sizes)


def content(path):
    kept = load_checkpoint(path)
    return {name: tensor.numpy().tobytes() for name, tensor in kept.tensors.items()}, kept.notes


@pytest.mark.slow
def test_keypoint_training_resumes_bit_for_bit_and_writes_a_public_file(clips, tmp_path):
    whole = train_keypoints(config(clips, tmp_path / "whole"))
    train_keypoints(config(clips, tmp_path / "cut", steps=2))
    cut = train_keypoints(config(clips, tmp_path / "cut"))
    assert cut.training.resumed_from == 2
    assert content(whole.training.checkpoint) == content(cut.training.checkpoint)
    assert whole.training.log.read_text() == cut.training.log.read_text()
    model, retargeting = open_keypoint_model(whole.renderer)
    assert model.layout == "face-vid2vid-15" and model.input_size == 64 and retargeting is None
    pictures = torch.rand(2, 3, 64, 64)
    again = open_keypoint_model(cut.renderer)[0]
    assert torch.equal(reenact(model, pictures, pictures.flip(0)), reenact(again, pictures, pictures.flip(0)))
    (sample,) = whole.training.samples
    from PIL import Image

    assert Image.open(sample).size == (3 * 64, 4 * 64)


def test_file_of_a_renderer_divides_by_spectral_norm_and_training_goes_on_from_it():
    model = new_renderer("tiny", 64)
    pictures = torch.rand(2, 3, 64, 64)
    reenact(model.train(), pictures, pictures.flip(0))  # statistics and vectors move
    model.eval()
    plain = plain_renderer(model)
    assert not any("parametrizations" in name for name in plain.state_dict())
    drawn = reenact(model, pictures, pictures.flip(0))
    assert torch.allclose(reenact(plain, pictures, pictures.flip(0)), drawn, atol=1e-5)
    other = new_renderer("tiny", 64, seed=5).eval()
    assert (reenact(other, pictures, pictures.flip(0)) - drawn).abs().mean() > 0.05
    again = start_from(other, plain, "renderer").eval()
    # the norm of what was saved was found by a few steps of power iteration: about 1
    assert (reenact(again, pictures, pictures.flip(0)) - drawn).abs().mean() < 0.005
    with pytest.raises(InputError, match="choose the size"):
        start_from(new_renderer("small", 128), plain, "renderer.safetensors")


def test_rotations_match_scipy_with_the_familys_half_turn():
    angles = torch.tensor([[10.0, -20.0, 5.0], [0.0, 30.0, 0.0]])
    expected = Rotation.from_euler("XYZ", angles.double().numpy() / 180 * 3.14).as_matrix()
    assert torch.allclose(rotations(angles), torch.from_numpy(expected).float(), atol=1e-6)


def test_lower_face_share_of_one_judges_the_lower_middle_alone(tmp_path):
    weights = dataclasses.replace(WEIGHTS, lower_face=1.0)
    stage = KeypointStage(
        new_renderer("tiny", 64), FramePairs([puppet_clip(0, 4)]), config(tmp_path, tmp_path, weights)
    )
    generated = torch.rand(1, 3, 64, 64, requires_grad=True)
    terms = stage._adversarial_terms(generated, torch.rand(1, 3, 64, 64))
    (terms["gan"] + terms["feature_matching"]).backward()
    assert generated.grad[:, :, 32:, 16:48].any()
    generated.grad[:, :, 32:, 16:48] = 0
    assert not generated.grad.any()


def test_without_adversarial_weight_there_is_no_discriminator(tmp_path):
    weights = dataclasses.replace(WEIGHTS, gan=0.0, feature_matching=0.0)
    data = FramePairs([puppet_clip(0, 4)])
    stage = KeypointStage(new_renderer("tiny", 64), data, config(tmp_path, tmp_path, weights))
    assert list(stage.optimizers()) == ["generator"]


def test_pixel_loss_matches_the_closed_form():
    first, second = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    second[..., ::2] = 1  # every second column: mean difference ½ at both sizes
    assert pixel_loss(first, second, 2).item() == pytest.approx(1.0)


def test_lower_face_share_counts_the_pixels_of_the_lower_middle(tmp_path):
    generated, target = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    target[:, :, 32:, 16:48] = 1  # a quarter of the picture
    for share, expected in ((0.0, 0.25), (0.5, 0.625), (1.0, 1.0)):
        settings = config(tmp_path, tmp_path, dataclasses.replace(WEIGHTS, lower_face=share))
        losses = PictureLosses(dataclasses.replace(settings, scales=1))(generated, target)
        assert losses["pixels"].item() == pytest.approx(expected)


def test_regions_are_what_the_boxes_frame():
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, :, 32:48, 16:32] = 1
    boxes = torch.tensor([[[-0.25, 0.25, 0.25], [0.5, -0.5, 0.25]]])
    inside, outside = regions_of(picture, boxes, 16)
    assert torch.allclose(inside, torch.ones(3, 16, 16), atol=1e-5) and not outside.any()


def test_only_the_mouth_and_only_the_eyes_are_compared(tmp_path):
    boxes = torch.tensor([[[0.0, 0.5, 0.25], [-0.5, -0.5, 0.125], [0.5, -0.5, 0.125]]])
    target = torch.rand(1, 3, 64, 64)
    for name, rows, columns in (("lips", slice(40, 56), slice(24, 40)), ("eyes", slice(12, 20), slice(12, 20))):
        settings = config(tmp_path, tmp_path, dataclasses.replace(WEIGHTS, **{name: 1.0}))
        generated = target.clone()
        generated[:, :, rows, columns] = 0
        elsewhere = target.clone()
        elsewhere[:, :, 28:36, 28:36] = 0
        losses = [PictureLosses(settings)(p, target, boxes)[name].item() for p in (generated, elsewhere, target)]
        assert losses[0] > 0.2 and losses[1:] == [0, 0]


def test_first_keypoints_are_drawn_to_the_landmarks():
    keypoints, landmarks = torch.zeros(2, 9, 3, requires_grad=True), torch.zeros(2, 7, 2)
    landmarks[..., 1] = 0.5  # 64 pixels of 256: beyond the width, so the slope is 1; no lip has moved about the others
    guide_loss(keypoints, landmarks).backward()
    expected = torch.zeros(2, 9, 3)
    expected[:, :7, 1] = -128 / 28  # pixels of a unit over the number of coordinates
    assert torch.allclose(keypoints.grad, expected)


def test_lips_count_about_their_middle_too():
    """The lower lip moves by d, the middle of five by d / 5: Wing losses of d, and of 4 d / 5 and four of d / 5."""
    keypoints, landmarks = torch.zeros(1, 8, 3), torch.zeros(1, 6, 2)
    landmarks[0, 1, 1] = 2 / 128
    alone = 10 * math.log(2) / 12
    shape = 10 * (math.log(1 + 0.8) + 4 * math.log(1 + 0.2)) / 10
    assert guide_loss(keypoints, landmarks).item() == pytest.approx(alone + shape, rel=1e-5)
    assert guide_loss(keypoints, landmarks.roll(4, 1)).item() == pytest.approx(alone, rel=1e-5)  # the chin alone


@pytest.mark.parametrize("steps", [2, 0])
def test_batch_norm_keeps_its_statistics_after_some_steps(steps, clips, tmp_path):
    settings = dataclasses.replace(config(clips, tmp_path), freeze_norm=steps)
    stage = KeypointStage(new_renderer("tiny", 64), FramePairs([puppet_clip(0, 4)]), settings)

    def moves(step):
        before = stage.model.he_estimator.norm1.running_mean.clone()
        generator = torch.Generator().manual_seed(0)
        next(stage.losses(stage.batch(step, 0), StepContext(step, 0, generator)))
        return not torch.equal(before, stage.model.he_estimator.norm1.running_mean)

    assert [moves(step) for step in (2, 3)] == [True, steps == 0]


@pytest.mark.parametrize("learn", ["keypoints", "pictures"])
def test_keypoints_or_pictures_learn_alone(learn, clips, tmp_path):
    settings = config(clips, tmp_path, dataclasses.replace(WEIGHTS, guide=1.0))
    settings = dataclasses.replace(settings, learn=learn, start=tmp_path)
    stage = KeypointStage(new_renderer("tiny", 64), FramePairs([puppet_clip(0, 4)]), settings)
    context = StepContext(1, 0, torch.Generator().manual_seed(0))
    stage.sample_images(lambda: None)  # puts what it is back
    seen = {name: buffer.clone() for name, buffer in stage.model.named_buffers() if "running" in name}
    losses = {loss.optimizer: loss for loss in stage.losses(stage.batch(1, 0), context)}
    losses["generator"].value.backward()
    of_keypoints = {"kp_detector", "he_estimator"}
    parts = {name.split(".")[0] for name, _ in stage.model.named_parameters()}
    learns = {name.split(".")[0] for name, p in stage.model.named_parameters() if p.grad is not None and p.grad.any()}
    moved = {name.split(".")[0] for name, b in stage.model.named_buffers() if name in seen and not b.equal(seen[name])}
    logged = set(losses["generator"].logged)
    if learn == "keypoints":
        assert learns == moved == of_keypoints and "discriminator" not in losses
        assert "guide" in logged and "pixels" not in logged
    else:
        assert learns == parts - of_keypoints and not moved & of_keypoints and "discriminator" in losses
        assert "guide" not in logged and {"pixels", "gan"} <= logged
        assert not any(name.startswith(tuple(of_keypoints)) for name in stage.optimizers()["generator"].parameters)


def test_averages_leave_alone_what_has_not_learnt():
    model = new_renderer("tiny", 64).eval()
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    averaged = with_averages(model, {"he_estimator.fc_t.bias": torch.full((3,), 7.0)})
    assert averaged.he_estimator.fc_t.bias.tolist() == [7, 7, 7]
    assert averaged.he_estimator.fc_exp.weight.equal(own["he_estimator.fc_exp.weight"])
    assert all(tensor.equal(own[name]) for name, tensor in model.state_dict().items())


def test_settings_at_their_defaults_do_not_part_a_run_from_older_checkpoints(clips, tmp_path):
    def settings(**changes):
        values = dataclasses.replace(config(clips, tmp_path), **changes)
        return KeypointStage(new_renderer("tiny", 64), FramePairs([puppet_clip(0, 4)]), values).settings()

    older = settings()
    assert "freeze_norm" not in older and not {"guide", "lips", "eyes"} & set(older["weights"])
    assert settings(freeze_norm=5)["freeze_norm"] == 5
    assert settings(weights=dataclasses.replace(WEIGHTS, guide=2.0))["weights"]["guide"] == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "needs vgg19"),
        ("[weights]\nperceptual = 0", "nothing says what a picture should show"),
        ("[weights]\nperceptual = 0\npixels = 10\ngan = 0", "needs a discriminator"),
        ("[weights]\nperceptual = 0\npixels = 10\nlower_face = 2", "weights.lower_face"),
        ("learn = 'keypoints'\n[weights]\nperceptual = 0\npixels = 10", "needs weights.guide"),
        ("learn = 'pictures'\n[weights]\nperceptual = 0\npixels = 10", "needs start"),
        ("learn = 'faces'\n[weights]\nperceptual = 0\npixels = 10", "learn"),
        ("freeze_norm = -2\n[weights]\nperceptual = 0\npixels = 10", "freeze_norm"),
        ('size = "huge"\n[weights]\nperceptual = 0\npixels = 10', "size"),
    ],
)
def test_settings_are_checked(lines, message, tmp_path):
    path = tmp_path / "keypoints.toml"
    path.write_text(f'data = "clips"\nout = "run"\n{lines}\n')
    with pytest.raises(InputError, match=message):
        load_keypoint_config(path)


def test_resolution_must_fit_the_networks():
    with pytest.raises(InputError, match="multiple of 32"):
        new_renderer("small", 144)


def test_flow_counts_motion_at_landmarks():
    """A field that moves all by a quarter right and an eighth up: right where landmarks do so, off by d where not."""
    field = coordinate_grid(2, 8, 8, torch.device("cpu"))[None] + torch.tensor([0.25, -0.125, 0.5])
    driving = torch.rand(1, 478, 2) - 0.5
    source = driving + torch.tensor([0.25, -0.125])
    assert flow_loss(field, source, driving).item() == pytest.approx(0, abs=1e-4)
    other = [i for i in range(478) if i not in LIPS][:10]
    source[:, other, 0] += 0.5  # 64 pixels of 256
    assert flow_loss(field, source, driving).item() == pytest.approx(64 * 10 / (2 * 478), rel=1e-4)
    source[:, list(LIPS), 1] -= 0.25
    expected = (64 * 10 + 32 * len(LIPS)) / (2 * 478) + 32 / 2
    assert flow_loss(field, source, driving).item() == pytest.approx(expected, rel=1e-4)


def test_dense_motion_learns_by_flow(tmp_path):
    weights = dataclasses.replace(WEIGHTS, flow=1.0, gan=0.0, feature_matching=0.0)
    stage = KeypointStage(
        new_renderer("tiny", 64), FramePairs([puppet_clip(0, 4)]), config(tmp_path, tmp_path, weights)
    )
    batch = stage.batch(1, 0)
    stage.model.eval()  # the generator's spectral norm would move
    source, driving = (stage.model.place(stage.model.keypoints(p)) for p in (batch.source, batch.source.flip(-1)))
    picture, terms = stage._rendered(batch, source, driving)
    drawn = stage.model.render(stage.model.features(batch.source), source, driving)
    assert torch.allclose(picture, drawn, atol=1e-6)
    terms["flow"].backward()
    assert stage.model.warping_module.dense_motion_network.mask.weight.grad.any()
    assert stage.model.spade_generator.fc.weight.grad is None
