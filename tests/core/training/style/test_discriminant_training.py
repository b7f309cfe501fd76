"""Training of the discriminant extractor: against scipy's generalised eigenvalues, and from clips to a file."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.media.records import save_record
from portraittalk_core.style.discriminant import NUM_STATISTICS
from portraittalk_core.style.extractor import load_extractor
from portraittalk_core.style.extractor_files import BUILT_IN
from portraittalk_core.training.style.augmented import draw_style, landmark_noise, recorded, sampled, styled
from portraittalk_core.training.style.config import load_style_config
from portraittalk_core.training.style.discriminant_config import DiscriminantTraining
from portraittalk_core.training.style.discriminant_stage import Samples, fitted
from portraittalk_core.types import LandmarkTrack


def samples(seed: int, classes: int = 40, clips: int = 60) -> Samples:
    """Classes that differ in ten statistics, of another size each, above noise of another size each."""
    rng = np.random.default_rng(seed)
    middles = np.zeros((classes, NUM_STATISTICS))
    middles[:, :10] = rng.normal(size=(classes, 10)) * np.arange(1, 11)
    labels = np.arange(classes).repeat(clips)
    noise = rng.normal(size=(len(labels), NUM_STATISTICS)) * np.linspace(0.5, 2, NUM_STATISTICS)
    return Samples(torch.from_numpy(middles[labels] + noise).float(), torch.from_numpy(labels))


def test_directions_are_those_of_the_generalised_eigenvalue_problem():
    known = samples(0)
    config = DiscriminantTraining(Path("out"), Path("data"), styles=40, width=5, shrinkage=0.0, real=0.0)
    network, spread = fitted(known, samples(1), config)
    points = ((known.statistics - network.centre) / network.scale).double().numpy()
    groups = points.reshape(40, 60, -1)
    apart = (groups - groups.mean(1, keepdims=True)).reshape(points.shape)
    within = apart.T @ apart / (len(points) - 40) + 1e-4 * np.eye(NUM_STATISTICS)
    values, vectors = eigh(np.cov(groups.mean(1).T), within)
    expected = vectors[:, :-6:-1]
    found = network.project.weight.double().numpy().T
    cosines = (expected * found).sum(0) / np.linalg.norm(expected, axis=0) / np.linalg.norm(found, axis=0)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-4)
    np.testing.assert_allclose(spread.square().numpy(), values[:-6:-1], rtol=1e-3)
    np.testing.assert_allclose(found.T @ within @ found, np.eye(5), atol=1e-3)  # people change by 1


def test_real_clips_count_by_their_weight():
    """Statistics in which real clips of one person differ do not tell people apart."""
    known, real = samples(0), samples(1)
    real.statistics[:, 9] += 200 * torch.randn(len(real.labels), generator=torch.Generator().manual_seed(0))
    shares = []
    for weight in (0.0, 0.5):
        settings = {"styles": 40, "width": 5, "shrinkage": 0.0, "real": weight}
        network, _ = fitted(known, real, DiscriminantTraining(Path("out"), Path("data"), **settings))
        weights = network.project.weight.abs()
        shares.append(float(weights[:, 9].max() / weights.max()))
    assert shares[0] > 0.5 and shares[1] < 0.05


def motion(count: int = 100) -> np.ndarray:
    return np.cumsum(np.random.default_rng(0).normal(size=(count, 23)), 0) * 0.1


def test_style_stays_and_recordings_change():
    style = draw_style(np.random.default_rng(3), [1.0])
    scale = motion()[:, :20].std(0)
    first, again, other = (styled(motion(), style, scale, 50, np.random.default_rng(n)) for n in (1, 1, 2))
    assert np.array_equal(first, again) and not np.allclose(first, other) and first.shape == (50, 23)
    still = np.stack([recorded(np.zeros((64, 23)), np.random.default_rng(n)).std(0) for n in range(200)])
    assert 0.25 < float((still.mean(0) / landmark_noise()).mean()) < 0.6  # half of the most, less what is slow
    long = sampled(motion(), np.linspace(-3, 120, 77))
    expected = [np.interp(np.linspace(-3, 120, 77), np.arange(100), curve) for curve in motion().T]
    np.testing.assert_allclose(long, np.stack(expected, 1), atol=0.01)  # its ends are a thousandth of a frame earlier


def prepared(folder: Path, name: str, seed: int) -> None:
    """A prepared video of a face whose lips, corners and brows move at random."""
    (folder / name).mkdir(parents=True)
    rng, count = np.random.default_rng(seed), 75
    points = canonical_face().expand(count, -1, -1).clone()
    for landmarks in ([14, 17, 152], [61], [291], [70, 105], [300, 334]):
        moves = np.convolve(rng.normal(size=count + 6), np.ones(7) / 7, "valid")
        points[:, landmarks, 1] += 0.1 * torch.from_numpy(moves).float()[:, None]
    track = LandmarkTrack.from_px(points * 100 + torch.tensor([256.0, 256, 0]), 512, 512, Fraction(25))
    save_record(track, folder / name / "landmarks.safetensors")
    (folder / name / "done.json").write_text(json.dumps({"name": name, "dropped": "", "reference": 0}))


def test_prepared_clips_become_an_extractor(tmp_path, capsys):
    for number in range(4):
        prepared(tmp_path / "clips", f"anna/{number}.mp4", number)
    prepared(tmp_path / "clips", "anna/kept.mp4", 4)
    text = 'stage = "discriminant"\nout = "run"\ndata = "clips"\nstyles = 90\nclips = 3\nwidth = 16\nlengths = [30]\n'
    text += 'leave_out = ["anna/kept.mp4"]\n'
    (tmp_path / "style.toml").write_text(text)
    assert main(["train", "style", "--config", str(tmp_path / "style.toml")]) == 0
    told = capsys.readouterr().out
    assert "270 clips of augmented speakers and 4 real ones of 1 people" in told
    assert float(told.split("seen, ")[1].split("%")[0]) > 20  # of 90 styles; chance is 1.1
    made = load_extractor(tmp_path / "run" / "style_extractor.safetensors")
    assert made.sizes.width == 16 and (tmp_path / "run" / "style_extractor.safetensors").stat().st_size < 30_000
    assert main(["train", "style", "--config", str(tmp_path / "style.toml")]) == 0
    assert load_extractor(tmp_path / "run" / "style_extractor.safetensors").space == made.space


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("styles = 100", "100 styles have fewer than 128 directions"),
        ("lengths = []", "lengths is empty"),
        ("lengths = [10]", "a length must lie between 25 and 256"),
        ("shrinkage = 2", "shrinkage must lie between 0 and 1"),
        ("width = 450", "width must be a whole number from 1 to 449"),
        ("trainer = 3", "unknown names: trainer"),
    ],
)
def test_settings_that_cannot_be_are_refused(line, message, tmp_path):
    (tmp_path / "style.toml").write_text(f'stage = "discriminant"\nout = "run"\ndata = "clips"\n{line}\n')
    with pytest.raises(InputError, match=message):
        load_style_config(tmp_path / "style.toml")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lengths = [50]", "no clip of 100 frames that shows a face throughout"),
        ('leave_out = ["a.mp4"]', "has no a.mp4, which leave_out names"),
    ],
)
def test_folder_without_such_clips_is_refused(line, message, tmp_path, capsys):
    prepared(tmp_path / "clips", "anna/a.mp4", 0)
    (tmp_path / "style.toml").write_text(f'stage = "discriminant"\nout = "run"\ndata = "clips"\n{line}\n')
    assert main(["train", "style", "--config", str(tmp_path / "style.toml")]) == 2
    assert message in capsys.readouterr().err


def test_built_in_extractor_can_be_named_for_the_attention_stage(tmp_path):
    text = 'stage = "attention"\ncheckpoint = "sd.safetensors"\ndata = "clips"\nout = "run"\nextractor = "built-in"\n'
    (tmp_path / "style.toml").write_text(text)
    assert load_style_config(tmp_path / "style.toml").extractor == BUILT_IN
