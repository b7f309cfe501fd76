"""Public files of keypoint models: known by their tensors, loaded whole, or refused with what is wrong."""

import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.renderers.implicit.facevid2vid.keypoint_detector import DetectorSizes, KeypointDetector
from portraittalk_core.renderers.implicit.file_layouts import detector_sizes
from portraittalk_core.renderers.implicit.files import open_keypoint_model, random_model, write_random_files
from portraittalk_core.renderers.implicit.spectral import folded, spectral_vectors, unfolded

LAYOUTS = ("liveportrait-21", "face-vid2vid-15")
FORMS = ("safetensors", "torch")
FILES = (
    "appearance_feature_extractor",
    "motion_extractor",
    "warping_module",
    "spade_generator",
    "stitching_retargeting_module",
)


def same(first, second, tolerance=1e-6):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=[(layout, form) for layout in LAYOUTS for form in FORMS], ids="-".join)
def written(request, tmp_path_factory):
    layout, form = request.param
    folder = tmp_path_factory.mktemp(form)
    return layout, folder, write_random_files(folder, layout, seed=3, form=form)


@pytest.fixture
def liveportrait(tmp_path):
    write_random_files(tmp_path / "lp", "liveportrait-21", form="torch")
    return tmp_path / "lp"


@pytest.fixture
def checkpoint(tmp_path):
    return write_random_files(tmp_path / "fv", "face-vid2vid-15")[0]


def test_every_layout_is_loaded_whole(written):
    layout, folder, paths = written
    assert len(paths) == (5 if layout == LAYOUTS[0] else 1)
    (model, small), (expected, expected_small) = open_keypoint_model(folder), random_model(layout, seed=3)
    assert model.layout == layout and model.input_size == 64 and model.sizes == expected.sizes
    same(model, expected)
    assert (small is None) == (expected_small is None)
    if small is not None:
        same(small, expected_small)
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_files_may_be_called_anything_and_given_one_by_one(written):
    layout, folder, paths = written
    renamed = [path.rename(folder / f"{i}{''.join(path.suffixes)}") for i, path in enumerate(paths)]
    try:
        assert open_keypoint_model(renamed[::-1], layout=layout)[0].layout == layout
    finally:
        for old, new in zip(paths, renamed, strict=True):
            new.rename(old)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision_reads_the_same_keypoints_and_nearly_the_same_picture(layout, tmp_path):
    paths = write_random_files(tmp_path, layout)
    crops = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    found = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        model, _ = open_keypoint_model(paths, dtype=dtype)
        points = model.place(model.keypoints(crops))
        assert model.dtype == dtype and points.dtype == torch.float32
        found[dtype] = points, model.render(model.features(crops[:1]), points[:1], points[1:])
    exact, fine = found[torch.float32]
    for dtype, tolerance in ((torch.float16, 0.003), (torch.bfloat16, 0.02)):
        points, coarse = found[dtype]
        assert torch.equal(points, exact) and coarse.dtype == torch.float32
        assert 0 < float((coarse - fine).abs().mean()) < tolerance


def test_live_portraits_own_folders_and_strangers_beside_them(liveportrait):
    (liveportrait / "base_models").mkdir()
    (liveportrait / "retargeting_models").mkdir()
    for name in FILES:
        inner = "retargeting_models" if "retargeting" in name else "base_models"
        (liveportrait / f"{name}.pth").rename(liveportrait / inner / f"{name}.pth")
    (liveportrait / "landmark.onnx").write_bytes(b"\x08\x07")
    torch.save({"other": torch.zeros(1)}, liveportrait / "landmark_model.pth")
    assert open_keypoint_model(liveportrait)[1] is not None


def test_retargeting_is_optional_and_the_others_are_named(liveportrait):
    (liveportrait / "stitching_retargeting_module.pth").unlink()
    assert open_keypoint_model(liveportrait)[1] is None
    (liveportrait / "motion_extractor.pth").unlink()
    (liveportrait / "warping_module.pth").unlink()
    with pytest.raises(
        InputError, match="LivePortrait's motion_extractor, warping_module is missing in what was given"
    ):
        open_keypoint_model(liveportrait)
    with pytest.raises(InputError, match="face-vid2vid's generator, kp_detector, he_estimator is missing"):
        open_keypoint_model(liveportrait, layout="face-vid2vid-15")


def test_an_empty_or_absent_folder_is_told(tmp_path):
    with pytest.raises(InputError, match=r"is missing in what was given .*huggingface.co/KlingTeam/LivePortrait"):
        open_keypoint_model(tmp_path)
    with pytest.raises(MissingDependency, match="there is no file or folder .*nowhere"):
        open_keypoint_model(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(liveportrait, name):
    path = liveportrait / f"{name}.pth"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"{name}.pth cannot be read as a weight file"):
        open_keypoint_model(path)
    with pytest.raises(InputError, match=rf"{name}.pth cannot be read as a weight file"):
        open_keypoint_model(liveportrait)  # the last may be missing, but not broken


def test_a_truncated_checkpoint_is_named(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(InputError, match="random-checkpoint.safetensors cannot be read as a weight file"):
        open_keypoint_model(checkpoint)


LOST = {
    "appearance_feature_extractor": "resblocks_3d.3dr0.norm2.running_var",
    "motion_extractor": "detector.stages.2.1.grn.gamma",
    "warping_module": "dense_motion_network.hourglass.decoder.norm.bias",
    "spade_generator": "up_1.norm_s.mlp_gamma.weight",
}


@pytest.mark.parametrize(("name", "tensor"), LOST.items())
def test_a_lost_tensor_is_named(liveportrait, name, tensor):
    path = liveportrait / f"{name}.pth"
    tensors = torch.load(path, weights_only=True)
    del tensors[tensor]
    torch.save(tensors, path)
    with pytest.raises(InputError, match=rf"{name}.pth does not fit .*{tensor}"):
        open_keypoint_model(liveportrait)


def test_a_lost_half_of_spectral_norm_is_named(liveportrait):
    path = liveportrait / "spade_generator.pth"
    tensors = torch.load(path, weights_only=True)
    del tensors["up_0.conv_s.weight_u"]
    torch.save(tensors, path)
    with pytest.raises(InputError, match="spade_generator.pth is not whole: up_0.conv_s.weight_orig needs"):
        open_keypoint_model(liveportrait)


def test_counters_of_batch_norms_need_not_be_there(checkpoint):
    tensors = {name: t for name, t in load_file(checkpoint).items() if not name.endswith("num_batches_tracked")}
    save_file(tensors, checkpoint)
    same(open_keypoint_model(checkpoint)[0], random_model("face-vid2vid-15")[0])


def test_numbers_that_are_none_are_refused(checkpoint):
    tensors = load_file(checkpoint)
    tensors["generator.third.conv.weight"][0] = float("nan")
    save_file(tensors, checkpoint)
    with pytest.raises(InputError, match=r"holds numbers that are NaN or infinite in third.conv.weight"):
        open_keypoint_model(checkpoint)


def test_what_training_leaves_in_a_checkpoint_is_passed_over(tmp_path):
    (path,) = write_random_files(tmp_path, "face-vid2vid-15", form="torch")
    content = torch.load(path, weights_only=True)
    content |= {"discriminator": {"down.weight": torch.zeros(2)}, "optimizer_generator": {"state": {0: torch.ones(1)}}}
    content["generator"] = {f"module.{name}": tensor for name, tensor in content["generator"].items()}
    torch.save(content, path)
    same(open_keypoint_model(path)[0], random_model("face-vid2vid-15")[0])


def test_sad_talkers_later_files_are_refused_by_name(tmp_path, checkpoint):
    tensors = load_file(checkpoint)
    renamed = {name.replace("kp_detector.", "kp_extractor."): t for name, t in tensors.items() if "he_est" not in name}
    path = tmp_path / "new" / "SadTalker_V0.0.2_256.safetensors"
    path.parent.mkdir()
    save_file(renamed, path)
    for given in (path, path.parent):
        with pytest.raises(InputError, match=r"SadTalker_V0.0.2_256.safetensors is SadTalker's .* no he_estimator"):
            open_keypoint_model(given)


def test_other_peoples_files_in_their_place_are_told(tmp_path):
    checkpoint = tmp_path / "v1-5.safetensors"
    to_k = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    entry = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({to_k: torch.zeros(320, 768), entry: torch.zeros(320, 4, 3, 3)}, checkpoint)
    with pytest.raises(InputError, match=r"v1-5.safetensors is no network .* but Stable Diffusion 1.5"):
        open_keypoint_model(checkpoint)
    detector = tmp_path / "det_10g.onnx"
    detector.write_bytes(b"\x08\x07")
    with pytest.raises(InputError, match=r"det_10g.onnx is an ONNX network, such as InsightFace's .* not needed"):
        open_keypoint_model(detector)
    strange = tmp_path / "strange.pth"
    torch.save({"one.weight": torch.zeros(1)}, strange)
    with pytest.raises(InputError, match=r"strange.pth is no network .* it holds one.weight"):
        open_keypoint_model([strange])


def test_families_are_not_taken_for_each_other(liveportrait, checkpoint):
    with pytest.raises(InputError, match="random-checkpoint.safetensors belongs to face-vid2vid, not to LivePortrait"):
        open_keypoint_model(checkpoint, layout="liveportrait-21")
    with pytest.raises(InputError, match="holds LivePortrait and face-vid2vid; say which"):
        open_keypoint_model([liveportrait, checkpoint])
    assert open_keypoint_model([liveportrait, checkpoint.parent], layout="face-vid2vid-15")[0].layout == LAYOUTS[1]
    with pytest.raises(InputError, match=r"both hold LivePortrait's appearance_feature_extractor"):
        open_keypoint_model([liveportrait, liveportrait / "appearance_feature_extractor.pth"])


def test_parts_of_other_keypoint_counts_are_refused(liveportrait):
    path = liveportrait / "motion_extractor.pth"
    tensors = torch.load(path, weights_only=True)
    for name in ("detector.fc_kp", "detector.fc_exp"):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.zeros(30, 32), torch.zeros(30)
    torch.save(tensors, path)
    with pytest.raises(InputError, match="have 10, 21 keypoints; LivePortrait's networks have 21"):
        open_keypoint_model(liveportrait)


def test_crops_may_have_another_size(checkpoint):
    model, _ = open_keypoint_model(checkpoint, input_size=128)
    crop = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(7))
    points = model.place(model.keypoints(crop))
    picture = model.render(model.features(crop), points, points)
    assert picture.shape == (1, 3, model.output_size, model.output_size) == (1, 3, 128, 128)
    with pytest.raises(InputError, match="multiple of 32, not 100"):
        open_keypoint_model(checkpoint, input_size=100)


@pytest.mark.parametrize("side", [torch.tensor([64, 64]), torch.tensor(float("nan")), torch.tensor(0)])
def test_a_side_of_crops_that_is_no_number_is_refused(checkpoint, side):
    save_file(load_file(checkpoint) | {"input_size": side}, checkpoint)
    with pytest.raises(InputError, match="random-checkpoint.safetensors says that crops have .* pixels a side"):
        open_keypoint_model(checkpoint)


@pytest.mark.parametrize("shape", [(65536, 3, 3, 3), (0, 3, 3, 3)])
def test_sizes_that_would_fill_the_memory_are_refused_before(liveportrait, shape):
    path = liveportrait / "appearance_feature_extractor.pth"
    tensors = torch.load(path, weights_only=True)
    tensors["first.conv.weight"] = torch.zeros(shape)
    torch.save(tensors, path)
    with pytest.raises(InputError, match=r"appearance_feature_extractor.pth (does not fit|is not whole)"):
        open_keypoint_model(liveportrait)


@pytest.mark.parametrize("shrink", [1, 2, 3, 4])
def test_a_detectors_sizes_follow_from_its_tensors(shrink):
    sizes = DetectorSizes(15, 4, 16, 3, 2, shrink)
    assert detector_sizes(KeypointDetector(sizes).state_dict(), "file") == sizes


def test_spectral_norm_folds_as_pytorch_does_in_evaluation():
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old form is what public files hold
        conv = torch.nn.utils.spectral_norm(torch.nn.Conv2d(6, 4, 3))
    for _ in range(2):
        conv(torch.randn(1, 6, 8, 8))
    x = torch.randn(1, 6, 8, 8)
    expected = conv.eval()(x)
    tensors = folded({f"up_0.conv_0.{name}": t for name, t in conv.state_dict().items()}, "file")
    assert set(tensors) == {"up_0.conv_0.weight", "up_0.conv_0.bias"}
    actual = torch.nn.functional.conv2d(x, tensors["up_0.conv_0.weight"], tensors["up_0.conv_0.bias"])
    torch.testing.assert_close(actual, expected)


def test_folding_undoes_unfolding():
    weight = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(6))
    left, right = spectral_vectors(weight)
    unit = weight / (left @ weight.flatten(1) @ right)
    tensors = unfolded({"G_middle_0.conv_0.weight": unit, "fc.weight": weight}, factor=3.0)
    assert set(tensors) == {"fc.weight", *(f"G_middle_0.conv_0.weight_{end}" for end in ("orig", "u", "v"))}
    torch.testing.assert_close(folded(tensors, "file")["G_middle_0.conv_0.weight"], unit)
