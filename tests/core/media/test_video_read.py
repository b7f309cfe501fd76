"""Reading video: what a file holds, and the picture shown at each output time."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.filter import Graph

from portraittalk_core.errors import MediaError
from portraittalk_core.frame_rate import MAX_FPS, MIN_FPS
from portraittalk_core.media import video_read
from portraittalk_core.media.video_read import VideoProbe, probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter

MS = Fraction(1, 1000)
STAMPS_MS = [0, 40, 100, 110, 300, 340, 380, 700, 720, 1000]  # each picture is shown from its stamp on
NTSC = Fraction(30000, 1001)


def levels(count: int) -> list[int]:
    """Grey levels that tell pictures apart after encoding."""
    return [10 + 9 * index for index in range(count)]


def indices(pictures) -> list[int]:
    return [round((float(picture[32:96, 32:96].float().mean()) - 10) / 9) for picture in pictures]


def test_probe_video_tells_what_is_there(write_video):
    path = write_video([np.zeros((72, 144, 3), np.uint8)] * 50)
    assert probe_video(path) == VideoProbe(144, 72, Fraction(25), 50, 2.0, False, False, Fraction(1, 75))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov"])
@pytest.mark.parametrize("fps", [Fraction(24), NTSC, Fraction(60)], ids=str)
def test_probe_video_finds_the_exact_rate(name, fps, write_video):
    probe = probe_video(write_video(levels(25), name, unit=1 / fps))
    assert probe.fps == fps and probe.num_frames == 25 and not probe.variable_rate
    assert probe.seconds == pytest.approx(25 / fps, abs=0.0011)  # Matroska counts milliseconds


def untimed(pictures, path):
    """A file whose pictures all have the same time stamp, as careless scripts write; or a raw stream, without any."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width = stream.height = 128
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "1", "g": "5", "bf": "0"}
        for level in pictures:
            frame = av.VideoFrame.from_ndarray(np.full((128, 128, 3), level, np.uint8)).reformat(format="yuv420p")
            frame.pts = 0
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    return path


@pytest.mark.parametrize("name", ["raw.h264", "alike.mp4"])
def test_pictures_without_time_stamps_are_taken_in_turn(name, tmp_path, caplog):
    path = untimed(levels(20), tmp_path / name)
    probe = probe_video(path)
    assert not probe.has_timestamps and probe.num_frames == 20 and probe.seconds == pytest.approx(20 / probe.fps)
    assert MIN_FPS <= probe.fps <= MAX_FPS and "does not tell when its pictures are shown" in caplog.text
    assert indices(read_pictures(path)) == list(range(20))
    assert indices(read_pictures(path, first=7)) == list(range(7, 20))
    assert indices(read_pictures(path, fps=2 * probe.fps)) == [index // 2 for index in range(40)]


def test_probe_video_sees_that_the_rate_varies(write_video):
    probe = probe_video(write_video(levels(10), stamps=STAMPS_MS, unit=MS))
    assert probe.variable_rate and probe.num_frames == 10


@pytest.mark.parametrize("unit", [MS, Fraction(1, 90_000)], ids=["ms", "90 kHz"])
def test_a_film_with_pauses_is_read_at_the_rate_of_most_of_its_pictures(unit, write_video):
    held = {8: 13, 17: 22}  # pictures on screen for longer than 1 / 30 s, and for how many times that
    shown = [index for index in range(25) for _ in range(held.get(index, 1))]
    stamps = [round(shown.index(index) / 30 / unit) for index in range(25)]
    path = write_video(levels(25), stamps=stamps, unit=unit)
    probe = probe_video(path)
    assert probe.variable_rate and probe.fps == 30
    found = indices(read_pictures(path))
    assert probe.num_frames == 25 and probe.max_frames == len(shown)
    assert found == shown[: len(found)] and len(found) >= len(shown) - 1  # the last may not say how long it lasts


def test_a_film_whose_steps_all_differ_is_read_at_its_average_rate(write_video):
    stamps = np.cumsum([0] + [20 + 9 * (k % 8) for k in range(23)]).tolist()
    probe = probe_video(write_video(levels(24), stamps=stamps, unit=MS))
    assert probe.variable_rate and probe.fps not in video_read.USUAL_FPS
    assert probe.fps == pytest.approx(24 / float(probe.seconds), rel=0.01)


@pytest.mark.parametrize("late_ms", [(0, 0.4, -0.4), (0, 2, 4, -1)], ids=["milliseconds", "a camera's clock"])
def test_stamps_that_are_a_little_off_neither_repeat_nor_drop_a_picture(late_ms, write_video):
    stamps = [round((index / 30 + late_ms[index % len(late_ms)] / 1000) * 90_000) for index in range(25)]
    path = write_video(levels(25), stamps=stamps, unit=Fraction(1, 90_000))
    assert indices(read_pictures(path))[:24] == list(range(24))


def test_probe_video_is_not_misled_by_pictures_stored_out_of_order(tmp_path, monkeypatch):
    blocks = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    with VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25)) as writer:
        for shift in range(100):  # a moving picture, of which the encoder stores two of three after their successor
            writer.write(torch.from_numpy(np.roll(blocks, shift, 1)))
    for limit in range(40, 48):  # wherever the look at a long film ends
        monkeypatch.setattr(video_read, "PROBED_PACKETS", limit)
        probe = probe_video(tmp_path / "v.mp4")
        assert (probe.fps, probe.num_frames, probe.seconds, probe.variable_rate) == (25, 100, 4.0, False)


def test_probe_video_of_a_single_picture(write_video):
    probe = probe_video(write_video([0]))
    assert probe.num_frames == 1 and probe.seconds == pytest.approx(0.04)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 25, 26, 77])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_read_pictures_at_the_own_rate_gives_each_once(num_frames, name, write_video):
    path = write_video([10 + 9 * (k % 25) for k in range(num_frames)], name, unit=Fraction(1, 30))
    assert indices(read_pictures(path)) == [k % 25 for k in range(num_frames)]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
@pytest.mark.parametrize("fps", [Fraction(10), Fraction(25), NTSC, Fraction(60)], ids=str)
def test_read_pictures_shows_what_is_on_screen_at_each_time(fps, name, write_video):
    path = write_video(levels(10), name, STAMPS_MS, MS)
    found = indices(read_pictures(path, fps))
    times = [k / fps for k in range(len(found))]
    assert found == [max(i for i, stamp in enumerate(STAMPS_MS) if stamp * MS <= time) for time in times]
    assert Fraction(len(found)) >= 1 * fps  # the last picture appears at one second


@pytest.mark.parametrize(("fps", "count"), [(25, 30), (30, 36), (NTSC, 36), (24, 29), (50, 60)])
def test_read_pictures_count_is_seconds_times_rate_rounded_up(fps, count, write_video):
    path = write_video(levels(12), unit=Fraction(1, 10))  # 1.2 s
    assert sum(1 for _ in read_pictures(path, Fraction(fps))) == count


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_read_pictures_turns_them_upright(degrees, write_video):
    picture = np.zeros((128, 160, 3), np.uint8)
    picture[:64, :80], picture[64:, 80:] = 250, 120
    path = write_video([picture] * 3, rotation=degrees)
    found = next(read_pictures(path)).numpy()
    expected = np.rot90(picture, degrees // 90)  # FFmpeg counts anticlockwise, as numpy does
    assert found.shape == expected.shape
    assert probe_video(path).width == expected.shape[1]
    assert np.abs(found.astype(int) - expected)[4:-4, 4:-4].mean() < 4


def test_read_pictures_reports_progress_and_may_be_stopped(write_video):
    path, told = write_video(levels(10)), []
    for _ in read_pictures(path, on_progress=lambda *counts: told.append(counts)):
        pass
    assert told == [(k, 10) for k in range(1, 11)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(read_pictures(path, on_progress=stop))


def test_read_pictures_keeps_what_is_left_of_a_cut_file(tmp_path, cut_file, caplog):
    noise = np.random.default_rng(0).integers(0, 255, (100, 64, 64, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "v.mp4", 64, 64, Fraction(25)) as writer:  # its index is at the front
        for picture in noise:
            writer.write(torch.from_numpy(picture))
    count = sum(1 for _ in read_pictures(cut_file(tmp_path / "v.mp4", 0.6)))
    assert 40 < count < 65
    assert "v.mp4 is cut off" in caplog.text and "of 4.00 s" in caplog.text


def test_reading_rejects_at_once_what_is_no_video(tmp_path, write_sound, write_video, cut_file):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.txt").write_text("no video\n" * 100)
    write_sound(np.zeros(8000), 8000, "sound.wav")
    cut_file(write_video(levels(20), "cut.mp4"), 0.5)  # this one's index was at the end
    told = {
        "none.mp4": "does not exist",
        "empty.mp4": "0 bytes",
        "text.txt": "is text",
        "sound.wav": "no video track",
        "cut.mp4": "cannot|not a sound or video",
    }
    for name, said in told.items():
        for look in (probe_video, read_pictures):
            with pytest.raises(MediaError, match=f"{name}.*({said})"):
                look(tmp_path / name)


def test_a_damaged_part_is_told_and_does_not_stop_the_rest(write_video, tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 255, (40, 128, 128, 3), dtype=np.uint8)
    whole = write_video(list(noise))
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with caplog.at_level("WARNING"):
        assert sum(1 for _ in read_pictures(whole)) == 40
        assert not caplog.records
        assert sum(1 for _ in read_pictures(damaged)) == 40
    assert "damaged.mp4 is damaged" in caplog.text


def test_reading_refuses_pictures_of_another_day(write_video):
    pictures = read_pictures(write_video(levels(3), stamps=[0, 40, 50_000_000], unit=MS))
    with pytest.raises(MediaError, match=r"video\.mp4 has a picture at 50000 s; videos of 43200 s"):
        for _ in range(100):
            next(pictures)


def test_reading_refuses_pictures_too_large_to_hold(tmp_path):
    with av.open(str(tmp_path / "v.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 8208, 16, "gray"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 8208), np.uint8), "gray")
        frame.pts = 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    with pytest.raises(MediaError, match=r"v\.mkv has pictures of 8208×16 pixels; each side may have 8192"):
        probe_video(tmp_path / "v.mkv")


@pytest.mark.parametrize(
    ("name", "codec", "size", "ratio", "expected"),
    [
        ("v.mp4", "libx264", (288, 400), "25/18", (400, 400)),
        ("v.mkv", "libx264", (180, 144), "64/45", (256, 144)),  # a quarter of PAL's wide screen
        ("v.mpg", "mpeg2video", (720, 576), "16/15", (768, 576)),  # a DVD's 4:3 in PAL
        ("v.mpg", "mpeg2video", (720, 480), "8/9", (720, 540)),  # and in NTSC
        ("v.mkv", "libx264", (160, 120), "1/1", (160, 120)),
        ("v.mkv", "libx264", (160, 120), "1000/1001", (160, 120)),  # less than a pixel
        ("v.mp4", "libx264", (160, 120), "50/1", (160, 120)),  # no camera has such
    ],
    ids=lambda value: str(value).replace("/", "-"),
)
def test_read_pictures_makes_pixels_square(name, codec, size, ratio, expected, tmp_path, caplog):
    width, height = size
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[height // 4 : height // 2, width // 4 : width // 2] = 220
    with av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 8_000_000
        stream.codec_context.sample_aspect_ratio = Fraction(ratio)
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    probe = probe_video(tmp_path / name)
    found = list(read_pictures(tmp_path / name))
    assert (probe.width, probe.height) == expected
    assert {tuple(picture.shape) for picture in found} == {(expected[1], expected[0], 3)}
    bright = (found[1].float().mean(2) > 140).nonzero().float()
    middle = [0.375 * side for side in (expected[1], expected[0])]  # what is a part of the picture stays it
    assert np.abs(bright.mean(0).numpy() + 0.5 - middle).max() < 1.5
    told = f"{name} has pixels that are not square ({ratio.replace('/', ':')})"
    assert caplog.text.count(told) == (expected != size)


def test_turned_video_with_oblong_pixels_is_stretched_along_its_rows(tmp_path):
    with av.open(str(tmp_path / "v.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 128, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        if not hasattr(type(stream), "set_display_rotation"):
            pytest.skip("this PyAV cannot mark a video as turned")
        stream.set_display_rotation(90)
        frame = av.VideoFrame.from_ndarray(np.zeros((128, 96, 3), np.uint8), "rgb24").reformat(format="yuv420p")
        frame.pts = 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    assert (probe_video(tmp_path / "v.mp4").width, next(read_pictures(tmp_path / "v.mp4")).shape[1]) == (128, 128)
    with av.open(str(tmp_path / "w.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 120, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(90)
        frame = av.VideoFrame.from_ndarray(np.zeros((120, 96, 3), np.uint8), "rgb24").reformat(format="yuv420p")
        frame.pts = 0
        file.mux([*stream.encode(frame), *stream.encode(None)])
    assert (probe_video(tmp_path / "w.mp4").width, probe_video(tmp_path / "w.mp4").height) == (120, 128)
    assert next(read_pictures(tmp_path / "w.mp4")).shape == (128, 120, 3)


BAR_SPEED = 6  # pixels a field


def write_interlaced(path, first: str, count: int = 12, interlaced=range(100)):
    """A bar that moves from field to field; the frames named in `interlaced` are woven of two moments."""
    marked = Graph()  # PyAV itself cannot say which field is the first
    source = marked.add_buffer(width=192, height=96, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, 25))
    marked.link_nodes(source, marked.add("setfield", first), marked.add("buffersink")).configure()
    with av.open(str(path), "w") as file:
        options = {"x264-params": f"{first}=1", "crf": "4", "preset": "ultrafast"}
        stream = file.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        for index in range(count):
            early, late = (bar(2 * index), bar(2 * index + 1))
            woven = early.copy()
            if index in interlaced:
                woven[(1 if first == "tff" else 0) :: 2] = late[(1 if first == "tff" else 0) :: 2]
            frame = av.VideoFrame.from_ndarray(woven, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            marked.push(frame)
            file.mux(stream.encode(marked.pull()))
        file.mux(stream.encode(None))
    return path


def bar(field: int) -> np.ndarray:
    picture = np.full((96, 192, 3), 40, np.uint8)
    picture[:, 8 + BAR_SPEED * field :][:, :24] = 210
    return picture


@pytest.mark.parametrize("first", ["tff", "bff"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_read_pictures_deinterlaces(first, suffix, tmp_path, caplog):
    path = write_interlaced(tmp_path / f"v{suffix}", first)
    with av.open(str(path)) as file:
        raw = next(file.decode(video=0))
    assert raw.interlaced_frame
    found = list(read_pictures(path))
    assert len(found) == 12 == probe_video(path).num_frames
    for index, picture in enumerate(found[1:-1], 1):
        rows = picture[8:-8, :, 1].float()
        assert (rows[1:] - rows[:-1]).abs().mean() < 1.5  # woven fields: about 6 · 170 / 192 = 5
        columns = (rows.mean(0) > 125).nonzero()
        assert abs(float(columns.float().mean()) - (8 + BAR_SPEED * 2 * index + 11.5)) < 2  # where the first field was
    assert caplog.text.count("is interlaced") == 1
    list(read_pictures(path))
    assert caplog.text.count("is interlaced") == 1


def test_deinterlacing_keeps_times_and_a_changing_rate(tmp_path):
    path = write_interlaced(tmp_path / "v.mkv", "tff", 20)
    assert len(list(read_pictures(path, Fraction(50)))) == 40
    assert len(list(read_pictures(path, Fraction(10)))) == 8


def test_progressive_pictures_are_not_touched_by_deinterlacing(write_video, monkeypatch):
    from portraittalk_core.media import deinterlace

    path = write_video(levels(4))
    monkeypatch.delattr(deinterlace, "Graph")  # which is not even opened
    assert indices(read_pictures(path)) == [0, 1, 2, 3]


def write_colours(path, colours, transfer: int, primaries: int, size: int = 64):
    """Columns of colours, R'G'B' 0..1 of full range, lossless in 16 bits, by the matrix of BT.2020 or 709."""
    red, blue = (0.2627, 0.0593) if primaries == 9 else (0.2126, 0.0722)
    rgb = np.repeat(np.repeat(np.array(colours, np.float64)[None], size, 0), size, 1)
    luma = rgb @ [red, 1 - red - blue, blue]
    yuv = np.stack([luma, (rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)], 2)
    codes = np.round((yuv * [219, 224, 224] + [16, 128, 128]) * 256).clip(0, 65535).astype(np.uint16)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = codes.shape[0], codes.shape[1], "yuv444p16le"
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, primaries
        context.colorspace, context.color_range = 9 if primaries == 9 else 1, 1
        frame = av.VideoFrame.from_ndarray(codes, "yuv444p16le")
        frame.pts, frame.colorspace, frame.color_range = 0, context.colorspace, 1
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def colours_of(path, count: int, size: int = 64) -> np.ndarray:
    picture = next(read_pictures(path)).numpy().astype(int)
    return np.stack([picture[size // 2, size * k + size // 2] for k in range(count)])


PQ, HLG, SDR, WIDE, DISPLAY_P3 = 16, 18, 14, 9, 12


def test_hdr_levels_agree_between_pq_and_hlg(tmp_path, caplog):
    # Rec. ITU-R BT.2408: 18 % grey, 26 cd/m², is 38 % of either; white, 203 cd/m², is 58 % of PQ and 75 % of HLG
    pq = colours_of(write_colours(tmp_path / "pq.mkv", [[0.38] * 3, [0.58] * 3, [0.7518] * 3, [0] * 3], PQ, WIDE), 4)
    hlg = colours_of(write_colours(tmp_path / "hlg.mkv", [[0.38] * 3, [0.75] * 3, [1] * 3, [0] * 3], HLG, WIDE), 4)
    assert np.abs(pq - hlg).max() <= 3
    assert np.abs(hlg[0] - 255 * (26 / 203) ** (1 / 2.4)).max() <= 3  # dark enough for no compression: 108
    assert (hlg[1] > 220).all() and (hlg[1] < 245).all()  # white has room above it
    assert (hlg[2] >= 254).all() and (hlg[3] == 0).all()  # 1000 cd/m² is the end
    for name in ("pq.mkv is HDR (PQ)", "hlg.mkv is HDR (HLG)"):
        assert caplog.text.count(name) == 1


def test_hdr_brightness_never_falls(tmp_path):
    for transfer in (PQ, HLG):
        found = colours_of(write_colours(tmp_path / f"{transfer}.mkv", np.linspace(0, 1, 60)[:, None] * [1, 1, 1],
                                         transfer, WIDE, 8), 60, 8)  # fmt: skip
        assert (np.diff(found[:, 1]) >= 0).all() and len(np.unique(found[:, 1])) > 40
        assert np.abs(found - found[:, :1]).max() <= 1  # grey stays grey


@pytest.mark.parametrize(
    ("primaries", "matrix"),
    [
        # Rec. ITU-R BT.2407, and SMPTE EG 432-1 with D65
        (WIDE, [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]),
        (DISPLAY_P3, [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]),
    ],
    ids=["bt2020", "p3"],
)
def test_wide_gamuts_become_bt709(primaries, matrix, tmp_path, caplog):
    colours = np.array([[0.6, 0.5, 0.4], [0.5, 0.6, 0.5], [0.8, 0.62, 0.55], [0.3, 0.3, 0.5], [0, 0.9, 0], [1, 1, 1]])
    found = colours_of(write_colours(tmp_path / "v.mkv", colours, SDR if primaries == WIDE else 1, primaries), 6)
    expected = 255 * np.clip(colours**2.4 @ np.array(matrix).T, 0, 1) ** (1 / 2.4)
    assert np.abs(found - expected).max() <= 2
    assert "v.mkv is of wide gamut" in caplog.text


@pytest.mark.parametrize("tag", ["colorspace", "color_trc", "color_primaries"])
@pytest.mark.parametrize("number", [3, 8, 14, 15, 17])
def test_colours_stated_by_mistake_stop_nothing(tag, number, tmp_path):
    with av.open(str(tmp_path / "v.nut"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        setattr(stream.codec_context, tag, number)
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 120, np.uint8), "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        file.mux([*stream.encode(frame), *stream.encode(None)])
    found = next(read_pictures(tmp_path / "v.nut"))
    assert (found.int() - 120).abs().max() <= 6


@pytest.mark.parametrize("primaries", [1, 2, 5, 6])
def test_ordinary_video_is_not_converted(primaries, tmp_path, caplog):
    colours = np.array([[0.8, 0.62, 0.55], [0.2, 0.3, 0.9]])
    found = colours_of(write_colours(tmp_path / "v.mkv", colours, primaries, primaries), 2)
    assert np.abs(found - 255 * colours).max() <= 2
    assert not caplog.records


def test_pq_says_how_bright_it_gets(tmp_path):
    """What never exceeds white is not compressed."""
    if "libx265" not in av.codecs_available:
        pytest.skip("this PyAV has no HEVC encoder")
    found = {}
    for peak in (203, 1000, 4000):
        with av.open(str(tmp_path / f"{peak}.ts"), "w") as file:
            params = f"log-level=none:hdr10=1:max-cll={peak},100:lossless=1:bframes=0:pools=1"
            stream = file.add_stream("libx265", rate=25, options={"x265-params": params})
            stream.width = stream.height = 128
            stream.pix_fmt = "yuv420p10le"
            context = stream.codec_context
            context.color_trc, context.color_primaries, context.colorspace, context.color_range = PQ, WIDE, 9, 1
            code = round((16 + 219 * 0.5807) * 4)  # 203 cd/m²
            frame = av.VideoFrame(128, 128, "yuv420p10le")
            for plane, value in zip(frame.planes, (code, 512, 512), strict=True):
                plane.update(struct.pack("<H", value) * (plane.buffer_size // 2))
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            file.mux([*stream.encode(frame), *stream.encode(None)])
        found[peak] = int(next(read_pictures(tmp_path / f"{peak}.ts"))[64, 64, 1])
    # BT.2390's spline at its target's peak, by hand: 160 and 128 of 203 cd/m²
    expected = {203: 255, 1000: 255 * (160 / 203) ** (1 / 2.4), 4000: 255 * (128 / 203) ** (1 / 2.4)}
    assert found == pytest.approx(expected, abs=2)
