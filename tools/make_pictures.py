"""Renders docs/strip.jpg, icon, banner and the thumbnails of workflows/ from the sample portrait and speech."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.data import astronaut

from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.evaluation.adfd_report import ADFD_METRICS, AdfdReport
from portraittalk_core.evaluation.clip import EvaluationClip
from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.face.crop import plan_face_crop
from portraittalk_core.face.draw import draw_landmarks
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.face.identity.arcface_crop import norm_crop
from portraittalk_core.face.lip_points import LIP_POINTS
from portraittalk_core.face.mesh.landmarks import find_portrait
from portraittalk_core.face.segmentation.person import person_mask
from portraittalk_core.face.sketch import draw_sketch
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.made_mark import COMPOSITE, picture_options
from portraittalk_core.motion.dub import dub_track
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.plots.track import plot_score, plot_track
from portraittalk_core.renderers.animatenet.landmark_control import draw_condition
from portraittalk_core.renderers.lip.blend import blend_mask
from portraittalk_core.renderers.lip.contract import LipCropRule
from portraittalk_core.renderers.lip.crop import LipBoxes
from portraittalk_core.renderers.lip.references import ReferenceFrames, contact_sheet
from portraittalk_core.renderers.vexpress.head_keypoints import draw_three, three_points
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.style.options import StyleUse
from portraittalk_core.style.reference import named_style, statistics_of
from portraittalk_core.types import LandmarkTrack, Speech

ROOT = Path(__file__).parents[1]
HEAD = (128, 20, 328, 240)  # of the astronaut: left, top, right, bottom
TILE = (300, 330)
MOMENTS_S = (0.2, 1.34, 3.0, 4.15, 5.4)
STYLE_MOMENTS_S = (0.2, 1.34, 2.2, 3.0, 4.15)
LOUD_FRAME = round(25 * 1.34)
LIP_CROP = LipCropRule(LIP_POINTS, 25.0, square=False, size=256)
SHOWN_REFERENCES = (0, 12, 33, 71, 76, 104)


def main() -> None:
    """Render and write the pictures."""
    portrait = find_portrait(torch.from_numpy(astronaut().copy()))
    speech = load_speech(ROOT / "samples" / "speech.wav")
    track = whole_track(open_engine(), speech, portrait.landmarks)
    renderer = PortraitRenderer(portrait)
    frames = [next(renderer.render(track.slice(i, i + 1))) for i in (round(25 * s) for s in MOMENTS_S)]
    save(strip([_head(portrait.picture), *map(_head, frames)]), ROOT / "docs" / "strip.jpg")
    save(icon(portrait, track), ROOT / "docs" / "icon.png")
    save(banner([_head(portrait.picture), *map(_head, frames)], speech), ROOT / "docs" / "banner.jpg")
    plot = _image(plot_track(track, speech)).resize((720, 540), Image.LANCZOS).crop((0, 128, 720, 300))
    faces = strip([_head(portrait.picture), *map(_head, frames[1:4])]).resize((720, 198), Image.LANCZOS)
    save(stack([faces, plot]), ROOT / "workflows" / "quick_portrait.jpg")
    save(identity(portrait, track), ROOT / "workflows" / "identity_portrait.jpg")
    save(talking(portrait, track), ROOT / "workflows" / "talking_portrait.jpg")
    save(stack([talking(portrait, track), plot]), ROOT / "workflows" / "everything.jpg")
    save(edits(portrait), ROOT / "workflows" / "edit_by_text.jpg")
    save(long(portrait, track, speech), ROOT / "workflows" / "long_speech.jpg")
    save(dub(portrait, speech), ROOT / "workflows" / "dub_a_video.jpg")
    save(styles(portrait, speech), ROOT / "workflows" / "speak_in_their_style.jpg")
    save(vexpress(portrait, track), ROOT / "workflows" / "v_express_portrait.jpg")
    save(seeds(portrait, speech), ROOT / "workflows" / "compare_two_seeds.jpg")
    save(keypoints(portrait, track), ROOT / "workflows" / "keypoint_portrait.jpg")
    save(keypoint_dub(portrait, speech), ROOT / "workflows" / "keypoint_dub.jpg")
    save(opening(portrait, speech), ROOT / "workflows" / "mouth_opening.jpg")
    for name, picture in lips(portrait, track, speech).items():
        save(picture, ROOT / "workflows" / f"{name}.jpg")
    scores = adfd_plot(whole_track(open_engine(), speech, portrait.landmarks, _other()), track)
    save(_image(scores).resize((720, 270), Image.LANCZOS), ROOT / "workflows" / "score_a_video.jpg")


def icon(portrait, track) -> Image.Image:
    """Half the face as a picture, half as landmarks; 400 pixels, the most that ComfyUI's registry takes."""
    left, _, right, _ = HEAD
    box = (left - 10, HEAD[1], right + 10, HEAD[1] + right - left + 20)
    face = _image(portrait.picture).crop(box).resize((400, 400), Image.LANCZOS)
    lines = _image(next(draw_landmarks(track, LOUD_FRAME, 1024))).crop([2 * at for at in box])
    face.paste(lines.resize((400, 400), Image.LANCZOS).crop((200, 0, 400, 400)), (200, 0))
    return face


def banner(heads: list[Image.Image], speech) -> Image.Image:
    """Heads in a row over the waveform, 21:9, as ComfyUI's registry wants it."""
    sheet = Image.new("RGB", (1260, 540), "#26303a")
    row = strip(heads)
    row = row.resize((1260, round(1260 * row.height / row.width)), Image.LANCZOS)
    sheet.paste(row, (0, 0))
    draw, middle = ImageDraw.Draw(sheet), row.height + 70
    loud = [float(part.abs().amax()) for part in speech.waveform.chunk(310)]
    for place, height in enumerate(loud):
        size = 55 * height / max(loud)
        draw.line([(10 + 4 * place, middle - size), (10 + 4 * place, middle + size)], fill="#7fb2d9", width=2)
    words = {"fill": "#dfe7ee", "anchor": "mm", "font": ImageFont.load_default(72)}
    draw.text((630, (middle + 60 + 540) / 2), "PortraitTalk", **words)
    return sheet


def adfd_plot(generated: LandmarkTrack, target: LandmarkTrack) -> torch.Tensor:
    """Plot of the ADFD of two tracks over time, (H, W, 3) uint8."""
    clips = [EvaluationClip.of_track(track, "the track") for track in (generated, target)]
    options = EvaluationOptions(metrics=ADFD_METRICS)
    report = AdfdReport.of(evaluate(*clips, options))
    return plot_score(report.place, report.motion, 25.0, f"ADFD {report.numbers['adfd']:.3f}")


def identity(portrait, track) -> Image.Image:
    """Inputs of IdentityNet Sampler, and a text box for its output, which depends on the user's checkpoint."""
    eyes, nose, mouth = ((33, 133), (263, 362)), 1, (61, 291)
    points = portrait.landmarks.points_px[0, :, :2]
    five = torch.stack([*(points[list(eye)].mean(0) for eye in eyes), points[nose], *points[list(mouth)]])
    face = _image(norm_crop(portrait.picture, five, 224)).resize((TILE[0], TILE[0]), Image.LANCZOS)
    lines = _image(next(draw_landmarks(track, round(25 * MOMENTS_S[1]), 512))).crop(HEAD).resize(TILE, Image.LANCZOS)
    box = Image.new("RGB", TILE, "#26303a")
    words = "your SD1.5\n+ your LoRAs\n\npaint every\nframe anew"
    ImageDraw.Draw(box).multiline_text(
        (TILE[0] / 2, TILE[1] / 2), words, fill="#dfe7ee", anchor="mm", align="center", font=ImageFont.load_default(34)
    )
    placed = Image.new("RGB", TILE, "black")
    placed.paste(face, (0, (TILE[1] - TILE[0]) // 2))
    return strip([_head(portrait.picture), placed, lines, box]).resize((720, 198), Image.LANCZOS)


def talking(portrait, track) -> Image.Image:
    """Hint pictures of the ControlNet for successive frames, and a text box for the sampler."""
    drawings = [_image(draw_condition(track, round(25 * at), 512, 512)).crop(HEAD) for at in MOMENTS_S[:3]]
    box = Image.new("RGB", TILE, "#26303a")
    words = "a drawing\na frame,\none motion:\nyour SD1.5\npaints them"
    ImageDraw.Draw(box).multiline_text(
        (TILE[0] / 2, TILE[1] / 2), words, fill="#dfe7ee", anchor="mm", align="center", font=ImageFont.load_default(34)
    )
    tiles = [_head(portrait.picture), *(tile.resize(TILE, Image.LANCZOS) for tile in drawings), box]
    return strip(tiles).resize((720, 158), Image.LANCZOS)


def edits(portrait) -> Image.Image:
    """The portrait, where the person is, a smile, and a text box for what the user's checkpoint makes of it."""
    mask = person_mask(portrait.picture.permute(2, 0, 1)[None] / 255)[0]
    person = (mask * 255).round().byte()[..., None].expand(-1, -1, 3).contiguous()
    silence = Speech(torch.zeros(1600), "silence")
    smile = MotionOptions(fps=Fraction(8), head_motion=0, blink_rate=0, emotion="happy")
    smiling = whole_track(open_engine(), silence, portrait.landmarks, smile)
    drawn = next(PortraitRenderer(portrait).render(smiling))
    tiles = [_head(portrait.picture), _head(person), _head(drawn), _box("older\nas a painting\nat the beach\n…")]
    return strip(tiles).resize((720, 198), Image.LANCZOS)


def long(portrait, track, speech) -> Image.Image:
    """Overlapping chunks over the waveform, and the hint picture of one frame of each."""
    drawings = [_image(draw_condition(track, round(25 * at), 512, 512)).crop(HEAD) for at in MOMENTS_S[:4]]
    tiles = [_head(portrait.picture), *(tile.resize(TILE, Image.LANCZOS) for tile in drawings)]
    top = strip(tiles).resize((720, 158), Image.LANCZOS)
    below = Image.new("RGB", (720, 132), "#26303a")
    draw, font = ImageDraw.Draw(below), ImageFont.load_default(15)
    loud = [float(part.abs().amax()) for part in speech.waveform.chunk(700)]
    for x, height in enumerate(loud, 10):
        draw.line([(x, 40 - 30 * height / max(loud)), (x, 40 + 30 * height / max(loud))], fill="#7fb2d9")
    for number in range(8):
        x_start, row = 10 + 84 * number, 80 + 14 * (number % 2)
        draw.rectangle([x_start, row, x_start + 110, row + 10], fill=("#d9a05b", "#8fbf7f")[number % 2])
    draw.text((360, 120), "chunk after chunk, of any length", fill="#dfe7ee", anchor="mm", font=font)
    return stack([top, below])


def dub(portrait, speech) -> Image.Image:
    """A picture with the crop box, the crop, the dubbed landmarks on it, and a text box for the sampler."""
    plan = plan_face_crop(portrait.landmarks)
    dubbed = dub_track(repeated(portrait.landmarks, 150), speech, MotionOptions(), open_engine())
    crop_track = replace(plan, track=dubbed.slice(LOUD_FRAME, LOUD_FRAME + 1)).track_on_crop()
    picture, box, side = _image(portrait.picture), plan.box(0), TILE[1]
    corners = [box.left, box.top, box.left + box.side, box.top + box.side]
    ImageDraw.Draw(picture).rectangle(corners, outline="#ffb347", width=5)
    crop = _image(plan.crop(portrait.picture, 0, side))
    line = _image(next(draw_landmarks(crop_track, 0, side)))
    paint = Image.new("RGB", (side, side), "#26303a")
    words = "your SD1.5\npaints the face,\nand nothing else"
    ImageDraw.Draw(paint).multiline_text(
        (side / 2, side / 2), words, fill="#dfe7ee", anchor="mm", align="center", font=ImageFont.load_default(34)
    )
    picture = picture.crop((0, 0, 512, 512)).resize((side, side), Image.LANCZOS)
    return strip([picture, crop, line, paint]).resize((720, 178), Image.LANCZOS)


def styles(portrait, speech) -> Image.Image:
    """The same sentence in three styles, at the same times."""
    renderer, rows = PortraitRenderer(portrait), []
    for name in ("calm", "lively", "smiling"):
        options = MotionOptions(style_statistics=statistics_of(named_style(name, StyleUse(noise=0.0))))
        track = whole_track(open_engine(), speech, portrait.landmarks, options)
        frames = [next(renderer.render(track.slice(i, i + 1))) for i in (round(25 * s) for s in STYLE_MOMENTS_S)]
        label = Image.new("RGB", TILE, "#26303a")
        words = {"fill": "#dfe7ee", "anchor": "mm", "font": ImageFont.load_default(52)}
        ImageDraw.Draw(label).text((TILE[0] / 2, TILE[1] / 2), name, **words)
        rows.append(strip([label, *map(_head, frames)]))
    sheet = stack(rows)
    return sheet.resize((720, round(720 * sheet.height / sheet.width)), Image.LANCZOS)


def seeds(portrait, speech) -> Image.Image:
    """The same sentence with two seeds, at the same times, and their difference over time."""
    renderer, rows, tracks = PortraitRenderer(portrait), [], []
    for seed in (0, 1):
        tracks.append(whole_track(open_engine(), speech, portrait.landmarks, MotionOptions(seed=seed)))
        frames = [next(renderer.render(tracks[-1].slice(i, i + 1))) for i in (round(25 * s) for s in MOMENTS_S)]
        label = Image.new("RGB", TILE, "#26303a")
        words = {"fill": "#dfe7ee", "anchor": "mm", "font": ImageFont.load_default(52)}
        ImageDraw.Draw(label).text((TILE[0] / 2, TILE[1] / 2), f"seed {seed}", **words)
        rows.append(strip([label, *map(_head, frames)]))
    faces = stack(rows)
    plot = _image(adfd_plot(tracks[1], tracks[0]))
    faces = faces.resize((720, round(720 * faces.height / faces.width)), Image.LANCZOS)
    return stack([faces, plot.resize((720, 200), Image.LANCZOS)])


def vexpress(portrait, track) -> Image.Image:
    """Head keypoint pictures of V-Express for successive frames, and a text box for the sampler."""
    points = three_points(track)[[round(25 * at) for at in MOMENTS_S[:3]]]
    drawings = [_image(picture).crop(HEAD).resize(TILE, Image.LANCZOS) for picture in draw_three(points, 512, 512)]
    box = Image.new("RGB", TILE, "#26303a")
    words = "speech,\nface, head:\nV-Express\npaints them"
    ImageDraw.Draw(box).multiline_text(
        (TILE[0] / 2, TILE[1] / 2), words, fill="#dfe7ee", anchor="mm", align="center", font=ImageFont.load_default(34)
    )
    return strip([_head(portrait.picture), *drawings, box]).resize((720, 158), Image.LANCZOS)


def keypoints(portrait, track) -> Image.Image:
    """The landmarks that become keypoints, and a text box for the renderer, whose weights the user fetches."""
    lines = [_lines(track, round(25 * at)) for at in MOMENTS_S[:3]]
    return strip([_head(portrait.picture), *lines, _box("the same as\nkeypoints:\nLivePortrait\ndraws them")]).resize(
        (720, 158), Image.LANCZOS
    )


def keypoint_dub(portrait, speech) -> Image.Image:
    """The crop of a face in its picture, the dubbed landmarks, and a text box for the renderer."""
    dubbed = dub_track(repeated(portrait.landmarks, 150), speech, MotionOptions(), open_engine())
    picture, box = _image(portrait.picture), plan_face_crop(portrait.landmarks).box(0)
    corners = [box.left, box.top, box.left + box.side, box.top + box.side]
    ImageDraw.Draw(picture).rectangle(corners, outline="#ffb347", width=5)
    scene = picture.crop((0, 0, 465, 512)).resize(TILE, Image.LANCZOS)
    words = "LivePortrait\nputs this mouth\ninto every\nframe"
    return strip([scene, _lines(dubbed, 5), _lines(dubbed, LOUD_FRAME), _box(words)]).resize((720, 197), Image.LANCZOS)


def opening(portrait, speech) -> Image.Image:
    """The same moment with five amounts of mouth, as landmarks, and the opening that each asks for over time."""
    gains, rows = (0.0, 0.5, 1.0, 1.5, 2.0), []
    tracks = [whole_track(open_engine(), speech, portrait.landmarks, MotionOptions(mouth_gain=gain)) for gain in gains]
    for gain, track in zip(gains, tracks, strict=True):
        tile = _lines(track, LOUD_FRAME)
        words = {"fill": "#dfe7ee", "anchor": "mm", "font": ImageFont.load_default(40)}
        ImageDraw.Draw(tile).text((TILE[0] / 2, 30), f"alpha {gain:g}", **words)
        rows.append(tile)
    top = strip(rows).resize((720, 158), Image.LANCZOS)
    below = Image.new("RGB", (720, 132), "#26303a")
    draw, curves = ImageDraw.Draw(below), [mouth_open(track)[: 25 * 6] for track in tracks]
    most = max(float(curve.max()) for curve in curves)
    for curve, colour in zip(curves, ("#8a97a5", "#7fb2d9", "#8fbf7f", "#d9a05b", "#d97f7f"), strict=True):
        points = [(10 + 700 * at / len(curve), 122 - 112 * float(value) / most) for at, value in enumerate(curve)]
        draw.line(points, fill=colour, width=2)
    return stack([top, below])


def lips(portrait, track, speech) -> dict[str, Image.Image]:
    """Thumbnails of the workflows of lip renderers: what these networks are given."""
    dubbed = dub_track(repeated(portrait.landmarks, 150), speech, MotionOptions(), open_engine())
    boxes = LipBoxes(dubbed, LIP_CROP)
    crop = boxes[0].take(portrait.picture, LIP_CROP.size)
    hidden, sketches = crop.clone(), []
    hidden[:, LIP_CROP.size // 2 :] = 0
    for frame in (4, LOUD_FRAME):
        points = boxes.points01(frame, dubbed.points[frame, list(LIP_POINTS)])
        sketches.append(_tile(draw_sketch(points[None], LIP_CROP.size)[0]))
    mask = blend_mask(boxes.points01(0, dubbed.points[[0, LOUD_FRAME]]), LIP_CROP.size, "lower", 0.08)
    masked = _tile(crop * (0.25 + 0.75 * mask))
    scene, box = _image(portrait.picture), boxes[0]
    ImageDraw.Draw(scene).rectangle([box.left, box.top, box.right, box.bottom], outline="#ffb347", width=5)
    scene = scene.crop((0, 0, 465, 512)).resize(TILE, Image.LANCZOS)
    sheet = references(portrait, track)
    strips = {
        "dub_lips": [_tile(hidden), sketches[1], sheet, _box("networks of\nthe pack paint\nthe mouth")],
        "dub_then_repaint": [
            scene,
            sketches[1],
            masked,
            _box("few pixels wide;\nthen your SD1.5\npaints the mouth\nin 512"),
        ],
        "fix_lips_of_a_generated_clip": [scene, *sketches, _box("any clip gets\nthe mouth that\nits sound asks for")],
    }
    return {name: strip(tiles).resize((720, 197), Image.LANCZOS) for name, tiles in strips.items()}


def references(portrait, track) -> Image.Image:
    """A contact sheet of frames of the speaking portrait."""
    renderer, boxes = PortraitRenderer(portrait), LipBoxes(track, LIP_CROP)
    frames = [next(renderer.render(track.slice(number, number + 1))) for number in SHOWN_REFERENCES]
    crops = [boxes[number].take(frame, 128) for number, frame in zip(SHOWN_REFERENCES, frames, strict=True)]
    sheet = _image(contact_sheet(crops, ReferenceFrames(SHOWN_REFERENCES, ()), SHOWN_REFERENCES, 2))
    placed = Image.new("RGB", TILE, sheet.getpixel((0, 0)))
    sheet.thumbnail(TILE, Image.LANCZOS)
    placed.paste(sheet, ((TILE[0] - sheet.width) // 2, 0))
    return placed


def _tile(crop: torch.Tensor) -> Image.Image:
    """A picture of a crop (3, S, S) float 0..1."""
    return _image((crop * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous()).resize(TILE, Image.LANCZOS)


def _lines(track: LandmarkTrack, frame: int) -> Image.Image:
    """Line drawing of a head."""
    return _image(next(draw_landmarks(track, frame, 1024))).crop([2 * at for at in HEAD]).resize(TILE, Image.LANCZOS)


def _box(words: str) -> Image.Image:
    """A text box."""
    box = Image.new("RGB", TILE, "#26303a")
    ImageDraw.Draw(box).multiline_text(
        (TILE[0] / 2, TILE[1] / 2), words, fill="#dfe7ee", anchor="mm", align="center", font=ImageFont.load_default(34)
    )
    return box


def repeated(face: LandmarkTrack, count: int) -> LandmarkTrack:
    """A track that repeats one frame `count` times."""
    return replace(face, points=face.points.expand(count, -1, -1).clone(), valid=face.valid.expand(count).clone())


def _other():
    return MotionOptions(seed=7, mouth_gain=0.6, offset_ms=80)


def _image(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray(picture.numpy())


def _head(picture: torch.Tensor) -> Image.Image:
    return _image(picture).crop(HEAD).resize(TILE, Image.LANCZOS)


def strip(tiles: list[Image.Image]) -> Image.Image:
    """Pictures side by side."""
    sheet = Image.new("RGB", (sum(tile.width for tile in tiles) + 6 * (len(tiles) - 1), tiles[0].height), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place * (tile.width + 6), 0))
    return sheet


def stack(rows: list[Image.Image]) -> Image.Image:
    """Pictures one below the other."""
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def save(image: Image.Image, path: Path) -> None:
    """Write a JPEG, which says in its metadata that its faces are made."""
    path.parent.mkdir(exist_ok=True)
    image.save(path, quality=88, **picture_options(path.suffix, COMPOSITE))


if __name__ == "__main__":
    main()
