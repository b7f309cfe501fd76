from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.face.lip_points import LIP_POINTS
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.contract import Film
from portraittalk_core.renderers.lip.contract import LipCropRule
from portraittalk_core.renderers.lip.crop import LipBoxes
from portraittalk_core.renderers.lip.footage import Footage
from portraittalk_core.renderers.lip.options import LipPaintOptions
from portraittalk_core.renderers.lip.reading import reference_sheet, references_of
from portraittalk_core.renderers.lip.references import ReferenceFrames, choose, contact_sheet
from portraittalk_core.types import LandmarkTrack

COUNT = 101


def film(yaw_deg: list[float] | None = None) -> tuple[LandmarkTrack, np.ndarray]:
    """A film whose mouth is open by rank[t] steps in frame t, and those ranks, shuffled."""
    rank = np.random.default_rng(0).permutation(COUNT)
    points = (canonical_face() * 100).repeat(COUNT, 1, 1)
    points[:, 17, 1] += 0.2 * torch.from_numpy(rank).float()
    if yaw_deg is not None:
        angles = torch.zeros(COUNT, 3)
        angles[:, 1] = torch.tensor(yaw_deg)
        points = points @ rotation_matrix(angles).transpose(1, 2)
    return LandmarkTrack.from_px(points + torch.tensor([300.0, 200.0, 0]), 640, 480, Fraction(25)), rank


EVERY = torch.ones(COUNT, dtype=torch.bool)


@pytest.mark.parametrize(("faces", "lips"), [(25, 5), (1, 1), (3, 200)])
def test_without_sharpness_references_are_the_public_codes(faces, lips):
    track, rank = film()
    frames, order = choose(track, EVERY, faces, lips), np.argsort(rank)
    for chosen, count in ((frames.faces, faces), (frames.lips, lips)):
        assert list(chosen) == [order[int(at)] for at in torch.linspace(0, COUNT - 1, steps=count)]


def test_frames_that_do_not_show_the_face_are_not_chosen():
    track, rank = film()
    shown = torch.from_numpy(rank % 3 == 0)
    frames = choose(track, shown, 10, 4)
    assert all(shown[list(frames.faces)]) and all(shown[list(frames.lips)])
    assert [rank[frames.faces[0]], rank[frames.faces[-1]]] == [0, 99]
    with pytest.raises(InputError, match="none of the film's 101 frames"):
        choose(track, ~EVERY, 10, 4)


def test_a_short_film_gives_its_frames_several_times():
    track, _ = film()
    assert choose(track.slice(0, 1), EVERY[:1], 25, 5, torch.ones(1)) == ReferenceFrames((0,) * 25, (0,) * 5)
    assert sorted(set(choose(track.slice(0, 3), EVERY[:3], 7, 2, torch.ones(3)).faces)) == [0, 1, 2]


def test_of_mouths_open_alike_the_sharp_one_is_chosen():
    """Steps of 25 ranks: of four ranks on either side, the only sharp one."""
    track, rank = film()
    sharp = np.isin(rank, [3, 22, 54, 75, 97])
    sharpness = torch.from_numpy(np.where(sharp, 100.0, 10.0))
    frames = choose(track, EVERY, 5, 5, sharpness)
    assert [int(rank[at]) for at in frames.faces] == [3, 22, 54, 75, 97]
    assert frames.lips == frames.faces


def test_of_mouths_open_alike_the_one_with_the_usual_head_is_chosen():
    _, rank = film()
    usual = np.isin(rank, [2, 27, 48, 77, 100])
    yaw = np.where(usual, 0.0, np.where(rank % 2, 25.0, -25.0))
    track, _ = film(yaw.tolist())
    frames = choose(track, EVERY, 5, 1, torch.ones(COUNT))
    ranks = [int(rank[at]) for at in frames.faces]
    assert sum(near in (2, 27, 48, 77, 100) for near in ranks) == 5, ranks


def test_no_frame_is_chosen_twice_where_there_are_enough():
    track, _ = film()
    sharpness = torch.rand(COUNT, generator=torch.Generator().manual_seed(1))
    for count in (2, 25, 50, 101):
        assert len(set(choose(track, EVERY, count, 1, sharpness).faces)) == count


def test_contact_sheet_shows_each_picture_and_writes_below_it():
    colours = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    pictures = [torch.tensor(colour)[:, None, None].expand(3, 32, 32) for colour in colours]
    frames = ReferenceFrames((4, 17, 17), (230,))
    sheet = contact_sheet(pictures, frames, [4, 17, 230])
    assert sheet.dtype == torch.uint8
    assert sheet.shape[2] == 3
    tiles = [sheet[4 + 64 + row * 148, 4 + 64 + column * 132] for row, column in ((0, 0), (0, 1), (1, 0))]
    assert [tile.tolist() for tile in tiles] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    captions = [sheet[132 + row * 148 : 148 + row * 148, 4 + 132 * at : 132 + 132 * at].float() for row, at in
                ((0, 0), (0, 1), (1, 0), (1, 1))]  # fmt: skip
    inked = [int((caption.amax(2) > 150).sum()) for caption in captions]
    assert 0 < inked[0] < inked[1]
    assert inked[3] == 0
    orange = (captions[2][..., 0] - captions[2][..., 2]) > 60
    assert orange.any() and not ((captions[0][..., 0] - captions[0][..., 2]) > 60).any()
    with pytest.raises(InputError, match="2 for 3"):
        contact_sheet(pictures, frames, [1, 2])


def test_references_of_a_film_that_runs_backwards_are_of_the_right_pictures(tmp_path):
    """Frame t shows the file's picture 11 − t, each of a grey of its own."""
    with VideoWriter(tmp_path / "film.mp4", 64, 64, Fraction(25), crf=1) as writer:
        for number in range(12):
            writer.write(torch.full((64, 64, 3), 20 * number + 10, dtype=torch.uint8))
    points = (canonical_face() * 12 + torch.tensor([32.0, 26.0, 0])).repeat(12, 1, 1)
    track = LandmarkTrack.from_px(points, 64, 64, Fraction(25))
    film = Film(tmp_path / "film.mp4", track, torch.arange(11, -1, -1))
    footage = Footage(film, track, track, torch.zeros(12, dtype=torch.int64), film.pictures)
    boxes = LipBoxes(track, LipCropRule(LIP_POINTS, 3, False, 16))
    options = LipPaintOptions(reference_frames="1 8 2 8")
    read = references_of(footage, boxes, torch.ones(12), options)
    greys = (read.pictures.mean((1, 2, 3)) * 255 - 10) / 20
    assert torch.allclose(greys, 11 - torch.tensor([1.0, 8, 2, 8]), atol=0.1)
    assert read.lips.shape == read.pictures.shape
    lit = (read.lips > 0).all(1)
    assert lit.flatten(1).any(1).all() and lit.float().mean() < 0.4  # lips alone, in place
    frames, sheet = reference_sheet(footage, boxes, torch.ones(12), options)
    assert frames.faces == (1, 8, 2, 8)
    tiles = [sheet[4 + 64 + row * 148, 4 + 64 + column * 132, 0] for row, column in ((0, 0), (0, 1), (1, 0))]
    assert [round((float(tile) - 10) / 20) for tile in tiles] == [10, 9, 3]  # frames 1, 2 and 8
    assert (read.sketches[:, :, :5].amax() > 0) and not read.lip_sketches[:, :, :5].any()
