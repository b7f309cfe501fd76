"""Films of the bad-input benchmark that a phone, a camera or an editor makes, and speech that does not fit them.

Every one is dubbed by renderers of lips, with tiny random weights, and by the warp. They are half a second long.
"""

from __future__ import annotations

import shutil
import wave
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

FPS, SECONDS, RATE_HZ = 12, 0.5, 16_000
RENDERERS = ("warp", "iplap", "musetalk", "liveportrait")
FAMILIES = ("lips", "iplap", "musetalk")  # of weights; lips reads films as iplap does
PQ, BT2020 = 16, 9  # the transfer of HDR10, and its primaries and matrix
FILM, SPEECH, LIPS, KEYPOINTS = "film.mp4", "speech.wav", "lip_files", "keypoint_files"
LAYOUT = "liveportrait-21"

Make = Callable[[Path], object]
Frame = np.ndarray  # (H, W, 3) uint8


def odd_films() -> dict[str, Make]:
    """What makes each film, by its name; `portrait.png` and `film.mp4` lie beside it."""
    return {
        "faceless.mp4": lambda path: write_film(path, [np.full((256, 256, 3), 120, np.uint8)] * 6),
        "two_faces.mp4": lambda path: write_film(path, [np.concatenate([face(path), face(path)[:, ::-1]], 1)] * 6),
        "turned.mp4": lambda path: write_film(
            path, [turned(face(path), degrees) for degrees in (0, 0, 10, 40, 60, 60)]
        ),
        "hand.mp4": lambda path: write_film(path, [face(path)] * 3 + [with_hand(face(path))] * 3),
        "all_hands.mp4": lambda path: write_film(path, [with_hand(face(path))] * 6),
        "leaves.mp4": lambda path: write_film(path, [np.roll(face(path), 48 * k, 1) for k in range(6)]),
        "vfr.mkv": lambda path: write_film(path, [face(path)] * 6, stamps=(0, 30, 150, 170, 400, 480)),
        "hdr.mp4": lambda path: write_film(path, [face(path)] * 6, "libx265", "yuv420p10le", hdr=True),
        "rotated.mp4": lambda path: write_film(path, [np.rot90(face(path), 3)] * 6, rotation=90),
        "overhead.mp4": lambda path: write_film(path, [np.rot90(face(path), 2)] * 6),
        "interlaced.mkv": interlaced,
        "upright.mp4": lambda path: write_film(path, [upright(face(path))] * 6),
        "odd_size.mp4": lambda path: write_film(path, [face(path)[:251, 2:255]] * 6, pix_fmt="yuv444p"),
        "alpha.mov": lambda path: write_film(path, [face(path)] * 6, "prores_ks", "yuva444p10le"),
        "4k.mp4": lambda path: write_film(path, [large(face(path))] * 2, fps=4),
        "fps_60.mp4": lambda path: write_film(path, [face(path)] * 30, fps=60),
        "fps_5.mp4": lambda path: write_film(path, [face(path)] * 3, fps=5),
        "one_frame.mp4": lambda path: write_film(path, [face(path)]),
        "two_frames.mp4": lambda path: write_film(path, [face(path)] * 2),
        "tiny.mp4": lambda path: write_film(path, [face(path)[::8, ::8]] * 6),
        "cut_off.mp4": lambda path: path.write_bytes((path.parent / FILM).read_bytes()[:9000]),
        "sound_only.mp4": lambda path: shutil.copy(path.parent / SPEECH, path),
    }


def odd_sounds() -> dict[str, Make]:
    """What makes each sound, by its name."""
    time = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220, 277.2, 329.6, 440)) / 8
    noise = np.random.default_rng(0).normal(size=len(time)) / 8
    return {
        "soundless.mp4": lambda path: write_film(path, [face(path)] * 6),
        "longer.wav": lambda path: write_wav(path, np.tile(spoken(path), 4)),
        "shorter.wav": lambda path: write_wav(path, spoken(path)[: RATE_HZ * 15 // 100]),
        "instant.wav": lambda path: write_wav(path, spoken(path)[:200]),
        "silent.wav": lambda path: write_wav(path, 0 * time),
        "music.wav": lambda path: write_wav(path, chord),
        "noisy.wav": lambda path: write_wav(path, noise),
        "clipped.wav": lambda path: write_wav(path, (20 * spoken(path)).clip(-1, 1)),
    }


def odd_weights() -> dict[str, Make]:
    """What makes each file of weights, by its name: tiny ones of each family, and others in their place."""
    from portraittalk_core.renderers.implicit.files import write_random_files
    from portraittalk_core.renderers.lip.random_files import write_random_lip_files

    def keypoints(path: Path) -> None:
        path.mkdir()
        write_random_files(path, LAYOUT)

    def good(path: Path) -> None:
        for name in FAMILIES:
            write_random_lip_files(path / name, name)

    def larger(path: Path) -> None:
        from safetensors import safe_open
        from safetensors.torch import save_file

        (file,) = (path.parent / LIPS / "lips").glob("*.safetensors")
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
            metadata = {name: text.replace('"size": 32', '"size": 512') for name, text in opened.metadata().items()}
        save_file(tensors, path, metadata)

    def truncated(path: Path) -> None:
        (file,) = (path.parent / LIPS / "iplap").glob("*.safetensors")
        path.write_bytes(file.read_bytes()[:-1000])

    return {LIPS: good, KEYPOINTS: keypoints, "other_size.safetensors": larger, "lips_cut.safetensors": truncated}


def words_of_cases() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and words of every case."""
    for renderer in RENDERERS:
        for film in odd_films():
            yield f"dub film {film} with {renderer}", words(renderer, film, SPEECH)
        for sound in odd_sounds():
            yield f"dub sound {sound} with {renderer}", words(renderer, FILM, sound)
    for renderer in FAMILIES:
        others = [f"{LIPS}/{other}" for other in FAMILIES if other != renderer]
        for file in (*others, "other_size.safetensors", "lips_cut.safetensors", "engine.safetensors"):
            yield f"dub weights {file} with {renderer}", words(renderer, FILM, SPEECH, file)
    for face in ("7", "0,0,3,3", "one_tensor.safetensors", "left"):
        yield f"dub also {face}", (*words("warp", "two_faces.mp4", SPEECH), "--also", face, SPEECH)
        yield f"talk also {face}", (*talk(), "--also", face, SPEECH)
    for sound in ("noise.wav", "absent.wav", "silent.wav", "fifo.wav"):
        yield f"dub also {sound}", (*words("warp", "two_faces.mp4", SPEECH), "--also", "1", sound)


def words(renderer: str, film: str, sound: str, weights: str = "") -> tuple[str, ...]:
    """The command line of one case."""
    listed = ("dub", f"--video={film}", f"--speech={sound}", "--out=out/o.mp4", f"--renderer={renderer}")
    if renderer == "warp":
        return listed
    if renderer == "liveportrait":
        return (*listed, f"--keypoints-folder={KEYPOINTS}", "--device=cpu")
    return (*listed, f"--lips-file={weights or f'{LIPS}/{renderer}'}", "--references=25", "--device=cpu")


def talk() -> tuple[str, ...]:
    """The command line of a picture that speaks."""
    return ("talk", "--portrait=portrait.png", f"--speech={SPEECH}", "--out=out/o.mp4")


def face(path: Path) -> Frame:
    """The portrait in a file's folder."""
    from PIL import Image

    return np.asarray(Image.open(path.parent / "portrait.png").convert("RGB"))


def spoken(path: Path) -> np.ndarray:
    """(N,) samples −1..1 of the speech in a file's folder."""
    with wave.open(str(path.parent / SPEECH)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def turned(picture: Frame, degrees: float) -> Frame:
    """A picture around a cylinder as wide as itself, turned by an angle."""
    at = np.linspace(-1, 1, picture.shape[1])
    source = np.sin(np.arcsin(at) - np.radians(degrees) * np.sqrt(1 - at**2))
    return picture[:, ((source + 1) / 2 * (picture.shape[1] - 1)).round().astype(int)]


def with_hand(picture: Frame) -> Frame:
    """The portrait with a flat patch over its mouth and chin."""
    covered = picture.copy()
    covered[78:125, 95:155] = (200, 150, 130)
    return covered


def upright(picture: Frame) -> Frame:
    """A picture with bars above and below, as of a phone."""
    bar = np.full((picture.shape[0] * 3 // 8, picture.shape[1], 3), 40, np.uint8)
    return np.concatenate([bar, picture, bar])


def large(picture: Frame) -> Frame:
    """A picture of 3840×2160 with the face in its middle."""
    whole = np.full((2160, 3840, 3), 90, np.uint8)
    face_8 = picture.repeat(8, 0).repeat(8, 1)[:2048, :2048]
    whole[56 : 56 + len(face_8), 900 : 900 + face_8.shape[1]] = face_8
    return whole


def interlaced(path: Path) -> None:
    """Fields of two moments, the upper one first."""
    moments = [np.roll(face(path), 6 * k, 1) for k in range(12)]
    woven = []
    for first, second in zip(moments[::2], moments[1::2], strict=True):
        frame = first.copy()
        frame[1::2] = second[1::2]
        woven.append(frame)
    write_film(path, woven, fps=25, field="tff")


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write (N,) samples −1..1."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def write_film(
    path: Path,
    frames: Sequence[Frame],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    fps: int = FPS,
    stamps: Sequence[int] | None = None,
    rotation: int = 0,
    hdr: bool = False,
    field: str = "",
) -> None:
    """Write a film without sound; stamps are milliseconds, field is the first one of interlaced frames (tff, bff)."""
    import av

    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    unit = Fraction(1, 1000) if stamps else Fraction(1, fps)
    mark = _marked(frames[0].shape[1], frames[0].shape[0], unit, field)
    with av.open(str(path), "w") as container:
        options = {"x264-params": f"{field}=1"} if field else quiet
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], pix_fmt
        stream.codec_context.time_base = unit
        if rotation and hasattr(type(stream), "set_display_rotation"):
            stream.set_display_rotation(rotation)
        if hdr:
            context = stream.codec_context
            context.color_trc, context.color_primaries, context.colorspace = PQ, BT2020, BT2020
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = stamps[number] if stamps else number, unit
            container.mux(stream.encode(mark(frame)))
        container.mux(stream.encode())


def _marked(width: int, height: int, unit: Fraction, field: str) -> Callable[[object], object]:
    """What marks frames as interlaced, which PyAV itself cannot."""
    if not field:
        return lambda frame: frame
    import av
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("yuv420p"), time_base=unit)
    graph.link_nodes(source, graph.add("setfield", field), graph.add("buffersink")).configure()

    def mark(frame: object) -> object:
        graph.push(frame)
        return graph.pull()

    return mark
