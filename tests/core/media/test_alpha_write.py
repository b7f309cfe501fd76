"""Pictures with transparency, read back by PyAV and Pillow."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.errors import InputError, OutputError, ShapeError
from portraittalk_core.media.alpha_write import open_alpha_writer

WIDTH, HEIGHT, COUNT = 96, 63, 5


def pictures() -> list[torch.Tensor]:
    """A disc with a soft edge that moves to the right, before nothing."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    made = []
    for index in range(COUNT):
        alpha = np.clip((22 - np.hypot(x - 36 - 4 * index, y - 31)) * 32 + 128, 0, 255)
        made.append(torch.from_numpy(np.stack([0 * x + 200, 0 * x + 60, 2 * x, alpha], -1).astype(np.uint8)))
    return made


def written(path, **more) -> list[np.ndarray]:
    """(H, W, 4) frames of a video as FFmpeg decodes them."""
    import av

    with open_alpha_writer(path, WIDTH, HEIGHT, Fraction(25), **more) as writer:
        for picture in pictures():
            writer.write(picture)
    assert writer.num_frames == COUNT
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        # FFmpeg's own VP9 decoder leaves alpha out
        decoder = av.CodecContext.create("libvpx-vp9", "r") if path.suffix == ".webm" else stream.codec_context
        frames = [frame for packet in file.demux(stream) for frame in decoder.decode(packet)]
    assert frames[0].format.name.startswith("yuva")
    return [frame.reformat(format="rgba").to_ndarray() for frame in frames]


@pytest.mark.parametrize(("name", "most"), [("a.webm", 24), ("a.mov", 2)])
def test_a_video_keeps_its_alpha(tmp_path, name, most):
    frames = written(tmp_path / name)
    assert len(frames) == COUNT
    for frame, picture in zip(frames, pictures(), strict=True):
        assert frame.shape == (HEIGHT + 1, WIDTH, 4)  # an odd height gets one more row
        expected, found = picture.numpy().astype(int), frame[:HEIGHT].astype(int)
        assert np.abs(found[..., 3] - expected[..., 3]).max() <= most
        assert np.abs(found[..., 3] - expected[..., 3]).mean() < 1
        solid = expected[..., 3] == 255
        assert np.abs(found - expected)[solid].mean() < 4


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "opus"), ("a.mov", "aac")])
def test_a_video_with_alpha_has_its_sound(tmp_path, name, codec):
    import av

    tone = torch.sin(torch.arange(4410) / 44100 * 2 * torch.pi * 440)[None] * 0.5
    written(tmp_path / name, sound=(tone, 44100))
    with av.open(str(tmp_path / name)) as file:
        stream = file.streams.audio[0]
        assert stream.codec_context.name.startswith(codec)
        samples = np.concatenate([f.to_ndarray().reshape(-1) for f in file.decode(stream)])
    assert np.abs(samples).max() > 0.3
    assert len(samples) / stream.rate == pytest.approx(COUNT / 25, abs=0.06)


def test_a_folder_of_pictures_is_exact_and_whole(tmp_path):
    out = tmp_path / "frames"
    with open_alpha_writer(out, WIDTH, HEIGHT, Fraction(25)) as writer:
        for picture in pictures():
            writer.write(picture)
        assert not out.exists()
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"{index:06d}.png" for index in range(COUNT)]
    for name, picture in zip(names, pictures(), strict=True):
        assert np.array_equal(np.asarray(Image.open(out / name)), picture.numpy())
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(OutputError, match="holds files already"):
        open_alpha_writer(out, WIDTH, HEIGHT, Fraction(25))


@pytest.mark.parametrize("name", ["a.webm", "frames"])
def test_what_was_begun_and_stopped_leaves_nothing(tmp_path, name):
    with pytest.raises(RuntimeError), open_alpha_writer(tmp_path / name, WIDTH, HEIGHT, Fraction(25)) as writer:
        writer.write(pictures()[0])
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no picture was written"):
        open_alpha_writer(tmp_path / name, WIDTH, HEIGHT, Fraction(25)).__enter__().close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif"])
def test_a_format_without_alpha_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"cannot hold transparency: take a name that ends in \.webm"):
        open_alpha_writer(tmp_path / name, WIDTH, HEIGHT, Fraction(25))


def test_pictures_without_alpha_are_refused(tmp_path):
    with (
        pytest.raises(ShapeError, match=r"\(H, W, 4\)"),
        open_alpha_writer(tmp_path / "a.mov", WIDTH, HEIGHT, Fraction(25)) as writer,
    ):
        writer.write(pictures()[0][..., :3])
