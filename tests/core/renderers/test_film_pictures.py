from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers import film_pictures
from portraittalk_core.renderers.film_pictures import pictures_at, pictures_in_order

COUNT, FPS = 60, Fraction(25)


@pytest.fixture(scope="module", params=["mp4", "mkv"])
def video(request, tmp_path_factory):
    """Each picture is of a grey of its own; key frames are where the encoder likes them: at the beginning only."""
    path = tmp_path_factory.mktemp("film") / f"a.{request.param}"
    with VideoWriter(path, 32, 32, FPS, crf=1) as writer:
        for number in range(COUNT):
            writer.write(torch.full((32, 32, 3), 10 + 4 * number, dtype=torch.uint8))
    return path


def numbers(pictures) -> list[int]:
    return [round((float(picture.float().mean()) - 10) / 4) for picture in pictures]


@pytest.mark.parametrize("first", [0, 1, 17, 40, COUNT - 1])
def test_reading_begins_where_it_is_told_to(video, first):
    assert numbers(read_pictures(video, FPS, first=first)) == list(range(first, COUNT))
    half = list(read_pictures(video, FPS / 2, first=first // 2))  # at another rate numbers are of that rate
    assert numbers(half) == list(range(first // 2 * 2, COUNT, 2))


@pytest.mark.parametrize("held", [1, 7, 64])
@pytest.mark.parametrize(
    "order",
    [
        range(COUNT),
        [*range(COUNT), *range(COUNT), 0],
        [*range(COUNT), *range(COUNT - 2, -1, -1), 1, 2],
        [*range(COUNT), *[COUNT - 1] * 9],
        [0, 0, 0, 5, 4, 4, 3, 59],
        [0, 1, 0, 1, 0],
    ],
)
def test_pictures_come_in_any_order(video, order, held, monkeypatch):
    monkeypatch.setattr(film_pictures, "BACKWARD_BYTES", held * 32 * 32 * 3)
    assert numbers(pictures_in_order(video, FPS, order)) == list(order)


def test_a_film_that_has_become_shorter_is_told(video):
    with pytest.raises(InputError, match=f"become shorter while it was read: frame {COUNT} is missing"):
        list(pictures_in_order(video, FPS, [COUNT - 2, COUNT - 1, COUNT]))


@pytest.mark.parametrize("skipped", [0, 3, 100])
@pytest.mark.parametrize("wanted", [[0], [3, 4, 9, 30, 31, COUNT - 1], list(range(COUNT)), []])
def test_some_pictures_are_read_with_and_without_opening_anew(video, wanted, skipped, monkeypatch):
    monkeypatch.setattr(film_pictures, "SKIPPED", skipped)
    assert numbers(pictures_at(video, FPS, wanted)) == wanted


def test_near_pictures_open_the_file_once(video, monkeypatch):
    opened = []
    monkeypatch.setattr(film_pictures, "read_pictures", lambda *a, **k: opened.append(a) or read_pictures(*a, **k))
    assert numbers(pictures_at(video, FPS, [2, 20, 40])) == [2, 20, 40]
    assert len(opened) == 1
