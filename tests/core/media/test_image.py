"""Pictures: every kind Pillow reads becomes upright RGB; what is no portrait is refused with its size or fault."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.errors import InputError, MediaError, OutputError
from portraittalk_core.media.image import load_picture, save_picture

SIZE = (160, 130)  # width, height


def saved(tmp_path, image: Image.Image, name: str = "p.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", SIZE, (10, 200, 30)), (10, 200, 30)),
        (Image.new("L", SIZE, 77), (77, 77, 77)),
        (Image.new("1", SIZE, 1), (255, 255, 255)),
        (Image.new("RGB", SIZE, (250, 128, 0)).convert("P", palette=Image.Palette.ADAPTIVE), (250, 128, 0)),
        (Image.new("RGBA", SIZE, (200, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", SIZE, (200, 0, 0, 255)), (200, 0, 0)),
        (Image.new("LA", SIZE, (0, 51)), (204, 204, 204)),  # 255 · (1 − 51/255)
        (Image.fromarray(np.full(SIZE[::-1], 257 * 60, np.uint16)), (60, 60, 60)),
        (Image.fromarray(np.full(SIZE[::-1], 250, np.uint16)), (1, 1, 1)),  # nearly black, not 250 of 255
    ],
    ids=["rgb", "grey", "bilevel", "palette", "clear", "opaque", "grey-alpha", "16-bit", "16-bit-dark"],
)
def test_load_picture_makes_rgb_of(image, expected, tmp_path):
    picture = load_picture(saved(tmp_path, image))
    assert picture.shape == (130, 160, 3) and picture.dtype == torch.uint8
    assert (picture == torch.tensor(expected, dtype=torch.uint8)).all()


def test_load_picture_applies_exif_rotation(tmp_path):
    pixels = np.zeros((130, 160, 3), np.uint8)
    pixels[:65] = 255  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me 90° clockwise": what is up goes right
    picture = load_picture(saved(tmp_path, Image.fromarray(pixels), exif=exif))
    assert picture.shape == (160, 130, 3)
    assert (picture[:, 65:] == 255).all() and (picture[:, :65] == 0).all()


@pytest.mark.parametrize(("size", "fine"), [((128, 128), True), ((127, 300), False), ((300, 4097), False)])
def test_load_picture_limits_the_side(size, fine, tmp_path):
    path = saved(tmp_path, Image.new("L", size))
    if fine:
        assert load_picture(path).shape == (*size[::-1], 3)
    else:
        with pytest.raises(MediaError, match=f"{size[0]}×{size[1]}.*128 to 4096"):
            load_picture(path)


def test_load_picture_rejects_missing_empty_and_foreign_files(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    for name, said in (("none.png", "does not exist"), ("empty.png", "0 bytes"), ("text.png", "not a picture")):
        with pytest.raises(MediaError, match=f"{name}.*{said}"):
            load_picture(tmp_path / name)
    with pytest.raises(MediaError, match="is a folder"):
        load_picture(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_load_picture_rejects_truncated(suffix, tmp_path, cut_file):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    with pytest.raises(MediaError, match=f"p.{suffix} is"):
        load_picture(cut_file(saved(tmp_path, Image.fromarray(noise), f"p.{suffix}")))


def test_save_picture_keeps_pixels_and_leaves_nothing_else(tmp_path):
    picture = torch.randint(0, 256, (130, 140, 3), dtype=torch.uint8)
    save_picture(picture.transpose(0, 1).transpose(0, 1), tmp_path / "p.png")
    assert torch.equal(torch.from_numpy(np.array(Image.open(tmp_path / "p.png"))), picture)
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_save_picture_rejects_bad_places(tmp_path):
    picture = torch.zeros(4, 4, 3, dtype=torch.uint8)
    with pytest.raises(InputError, match="p.xyz"):
        save_picture(picture, tmp_path / "p.xyz")
    with pytest.raises(OutputError, match="does not exist"):
        save_picture(picture, tmp_path / "none" / "p.png")
    with pytest.raises(InputError, match="uint8"):
        save_picture(picture.float(), tmp_path / "p.png")
