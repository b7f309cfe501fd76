"""The mark of AI-generated files: read back by PyAV, Pillow and by hand; off; no pixel and no other tag changes."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.media.alpha_write import open_alpha_writer
from portraittalk_core.media.image import load_picture, save_picture
from portraittalk_core.media.made_mark import COMPOSITE, TRAINED, ai_mark
from portraittalk_core.media.video_write import SUFFIXES, VideoWriter

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
PROPERTY = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
PICTURES = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def source_type(packet: bytes | str) -> str:
    """DigitalSourceType of an XMP packet."""
    text = packet.decode() if isinstance(packet, bytes) else packet
    (found,) = ElementTree.fromstring(text[text.index("<x:xmpmeta") : text.index("<?xpacket end")]).iter(PROPERTY)
    return found.text


def write(path: Path, **options) -> Path:
    with VideoWriter(path, 128, 128, Fraction(25), **options) as writer:
        for picture in PICTURES:
            writer.write(picture)
    return path


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and contents of an MP4 file's outermost boxes."""
    found, at = [], 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        found.append((kind, content[at + 8 : at + size]))
        at += size
    assert at == len(content)
    return found


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_video_says_it_in_its_comment_and_no_frame_changes(suffix, tmp_path):
    marked = write(tmp_path / f"marked{suffix}")
    with ai_mark(False):
        plain = write(tmp_path / f"plain{suffix}")
    with av.open(str(marked)) as container:
        tags = {name.lower(): value for name, value in container.metadata.items()}
        assert container.streams.video[0].frames in (0, 3)
    assert "AI-generated" in tags["comment"] and IPTC + COMPOSITE in tags["comment"]
    assert suffix == ".mov" or tags["description"] == tags["comment"]
    assert tags.get("digital_source_type") == (IPTC + COMPOSITE if suffix == ".mkv" else None)
    for path in (plain, write(tmp_path / f"given{suffix}", source_type=None)):
        with av.open(str(path)) as container:
            assert not {"comment", "description", "digital_source_type"} & {name.lower() for name in container.metadata}
        assert b"AI-generated" not in path.read_bytes()
    assert all(np.array_equal(a, b) for a, b in zip(decoded(marked), decoded(plain), strict=True))


def test_an_mp4_file_also_holds_the_xmp_packet_in_its_own_box(tmp_path):
    """Adobe's UUID for XMP; the other boxes stay whole, the film's header still comes first."""
    found = boxes(write(tmp_path / "a.mp4").read_bytes())
    assert [kind for kind, _ in found][:2] == [b"ftyp", b"moov"] and found[-1][0] == b"uuid"
    assert found[-1][1][:16].hex() == "be7acfcb97a942e89c71999491e3afac"
    assert source_type(found[-1][1][16:]) == IPTC + COMPOSITE
    with ai_mark(False):
        assert b"uuid" not in [kind for kind, _ in boxes(write(tmp_path / "b.mp4").read_bytes())]


@pytest.mark.parametrize(("name", "tag"), [("a.webm", "digital_source_type"), ("a.mov", "comment"), ("frames", None)])
@pytest.mark.parametrize("on", [True, False])
def test_pictures_with_transparency_say_it_too(name, tag, on, tmp_path):
    with ai_mark(on), open_alpha_writer(tmp_path / name, 128, 128, Fraction(25)) as writer:
        writer.write(torch.cat([PICTURES[0], PICTURES[1, ..., :1]], 2))
    if tag is None:
        with Image.open(tmp_path / name / "000000.png") as opened:
            assert opened.mode == "RGBA"
            assert (IPTC + COMPOSITE in opened.info.get("XML:com.adobe.xmp", "")) == on
        return
    with av.open(str(tmp_path / name)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert (IPTC + COMPOSITE in tags.get(tag, "")) == on


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_a_picture_says_it_in_xmp_and_no_pixel_changes(suffix, tmp_path):
    marked = save_picture(PICTURES[0], tmp_path / f"marked{suffix}", source_type=TRAINED)
    plain = save_picture(PICTURES[0], tmp_path / f"plain{suffix}")
    with ai_mark(False):
        off = save_picture(PICTURES[0], tmp_path / f"off{suffix}", source_type=TRAINED)
    assert plain.read_bytes() == off.read_bytes()
    assert torch.equal(load_picture(marked), load_picture(plain))
    with Image.open(marked) as opened:
        info = {name: opened.info[name] for name in ("xmp", "XML:com.adobe.xmp") if opened.info.get(name)}
        if suffix == ".tif":
            info["xmp"] = opened.tag_v2[700]
    if suffix == ".bmp":  # has no place for it
        assert marked.read_bytes() == plain.read_bytes()
        return
    assert source_type(next(iter(info.values()))) == IPTC + TRAINED
    assert (suffix == ".png") == ("XML:com.adobe.xmp" in info)


def test_nothing_of_the_sounds_own_file_is_copied(tmp_path):
    """The film whose sound is taken has a title and a comment of its own."""
    film = tmp_path / "film.mov"
    with av.open(str(film), "w") as container:
        container.metadata.update({"title": "Holiday", "comment": "filmed by hand", "location": "+48.2+016.4/"})
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    for mark in (True, False):
        with ai_mark(mark), av.open(str(write(tmp_path / f"{mark}.mp4", sound=film))) as container:
            assert "title" not in container.metadata and "location" not in container.metadata
            assert "filmed" not in container.metadata.get("comment", "")


def test_the_switch_holds_only_inside():
    from portraittalk_core.media.made_mark import marking

    with pytest.raises(RuntimeError), ai_mark(False):
        assert not marking()
        with ai_mark(True):
            assert marking()
        assert not marking()
        raise RuntimeError
    assert marking()
