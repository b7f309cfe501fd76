"""Pictures: every kind Pillow reads becomes upright RGB; what is no portrait is refused with its size or fault."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, features

from portraittalk_core.errors import InputError, MediaError, MissingDependency, OutputError
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


def test_load_picture_rejects_small_pictures(tmp_path):
    assert load_picture(saved(tmp_path, Image.new("L", (128, 128)))).shape == (128, 128, 3)
    for size in ((127, 300), (300, 127), (9000, 250)):
        with pytest.raises(MediaError, match=f"{size[0]}×{size[1]} pixels; each side must have 128 at least"):
            load_picture(saved(tmp_path, Image.new("L", size)))


@pytest.mark.parametrize(
    ("name", "mode"),
    [("p.png", "P"), ("p.png", "RGBA"), ("p.jpg", "RGB"), ("p.tif", "RGB"), ("p.tif", "CMYK"), ("p.webp", "RGBA")],
)
def test_load_picture_scales_large_pictures_down(name, mode, tmp_path, caplog):
    pixels = np.full((1000, 6000, 3), 90, np.uint8)
    pixels[:, 3000:] = (220, 30, 60)
    image = Image.fromarray(pixels)
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture = load_picture(saved(tmp_path, image, name, exif=exif)).int()
    assert picture.shape == (683, 4096, 3)
    assert (picture[20:-20, :2030] - torch.tensor([220, 30, 60])).abs().max() <= 12  # what a JPEG takes off
    assert (picture[20:-20, 2070:] - 90).abs().max() <= 12
    assert f"{name} is 6000×1000 pixels; it is scaled down to 4096×683" in caplog.text


@pytest.mark.parametrize("name", ["p.tif", "p.jpg", "p.png"])
def test_load_picture_turns_large_pictures(name, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"compression": "tiff_lzw"} if name == "p.tif" else {}  # Pillow 13 garbles turned ones without
    picture = load_picture(saved(tmp_path, Image.new("L", (4200, 1050), 40), name, exif=exif, **options))
    assert picture.shape == (4096, 1024, 3)


def test_load_picture_scales_as_filtered(tmp_path):
    stripes = np.zeros((256, 8192), np.uint8)
    stripes[:, ::2] = 255
    picture = load_picture(saved(tmp_path, Image.fromarray(stripes))).int()
    assert (picture[:, 8:-8] - 127).abs().max() <= 2  # no moiré


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(11_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_load_picture_decodes_no_bombs(size, tmp_path):
    (tmp_path / "p.png").write_bytes(png_of(*size))
    with pytest.raises(MediaError, match=r"p\.png is .*more than 100 million"):
        load_picture(tmp_path / "p.png")


def test_load_picture_starts_no_other_program(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    def started(*args, **kwargs):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    monkeypatch.setattr(EpsImagePlugin, "has_ghostscript", lambda: True)
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n%%EndComments\nshowpage\n%%EOF\n"
    for name in ("p.png", "p.eps"):
        (tmp_path / name).write_bytes(content)
        with Image.open(tmp_path / name) as opened, pytest.raises(AssertionError):
            opened.load()  # as it would be without a list of formats
        with pytest.raises(MediaError, match="is not a picture"):
            load_picture(tmp_path / name)


D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
PRIMARIES = {
    "srgb": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    "adobe": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
    "prophoto": ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)),
}


def to_pcs(space: str) -> np.ndarray:
    """(3, 3) from linear RGB to XYZ for D50."""
    corners = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[space]]).T
    white = np.array(D50) if space == "prophoto" else np.array([0.3127 / 0.329, 1, (1 - 0.3127 - 0.329) / 0.329])
    adapted = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    return adapted @ (corners * np.linalg.solve(corners, white))


def icc_profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2 (ICC.1:2001-04)."""
    text = b"test profile\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz_tag(D50),
        **tags,
    }
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s12s4s", at + len(body), b"", 0x02400000, kind, space, pcs, bytes(12), b"acsp")
    head += bytes(28) + xyz_tag(D50)[8:] + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def xyz_tag(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * float(value)) for value in values))


def gamma_tag(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma))


def rgb_profile(space: str, gamma: float) -> bytes:
    columns = to_pcs(space).T
    tags = {name + b"XYZ": xyz_tag(column) for name, column in zip((b"r", b"g", b"b"), columns, strict=True)}
    return icc_profile(b"RGB ", tags | {name + b"TRC": gamma_tag(gamma) for name in (b"r", b"g", b"b")})


def srgb_of(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("space", "gamma"), [("p3", 2.2), ("adobe", 2.2), ("prophoto", 1.8), ("srgb", 1.0)])
@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.tif", "p.webp"])
def test_load_picture_converts_profiles_to_srgb(space, gamma, name, tmp_path):
    colours = np.array([[210, 110, 60], [90, 120, 90], [60, 60, 160], [255, 255, 255], [128, 128, 128]])
    pixels = np.repeat(np.repeat(colours[None], 128, 0), 64, 1).astype(np.uint8)
    options = {"quality": 98, "subsampling": 0} if name == "p.jpg" else {"lossless": True} if name == "p.webp" else {}
    path = saved(tmp_path, Image.fromarray(pixels), name, icc_profile=rgb_profile(space, gamma), **options)
    found = load_picture(path).numpy()[64, 32::64].astype(int)
    expected = srgb_of((colours / 255) ** gamma @ (np.linalg.inv(to_pcs("srgb")) @ to_pcs(space)).T)
    assert np.abs(found - expected).max() <= (5 if name == "p.jpg" else 2)
    assert np.abs(found - colours).max() > 10  # as it would be without


@pytest.mark.parametrize("mode", ["RGBA", "P", "L"])
def test_load_picture_converts_profiles_in_every_mode(mode, tmp_path):
    image = Image.new("RGB", SIZE, (200, 200, 200))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    if mode == "RGBA":
        image.putalpha(128)
    grey = float(srgb_of(np.array((200 / 255) ** 1.8)))
    expected = 255 + (grey - 255) * 128 / 255 if mode == "RGBA" else grey
    profile = icc_profile(b"GRAY", {b"kTRC": gamma_tag(1.8)}) if mode == "L" else rgb_profile("prophoto", 1.8)
    found = load_picture(saved(tmp_path, image, icc_profile=profile)).int()
    assert (found - expected).abs().max() <= 2


def test_load_picture_converts_16_bit_grey(tmp_path):
    pixels = np.full(SIZE[::-1], 20_000, np.uint16)
    profile = icc_profile(b"GRAY", {b"kTRC": gamma_tag(1.0)})
    for name in ("p.png", "p.tif"):
        found = load_picture(saved(tmp_path, Image.fromarray(pixels), name, icc_profile=profile)).int()
        assert (found - float(srgb_of(np.array(20_000 / 65_535)))).abs().max() <= 2


def cmyk_profile() -> bytes:
    """One in which black ink or all others make black, and any of the others alone a grey of L* 50."""
    nodes = bytearray()
    for node in range(16):  # the last ink, black, changes first
        inks = bin(node).count("1")
        lightness = 255 if inks == 0 else 0 if node & 1 or inks == 3 else 128
        nodes += bytes([lightness, 128, 128])
    straight = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    return icc_profile(b"CMYK", {b"A2B0": lut + 4 * straight + bytes(nodes) + 3 * straight}, b"prtr", b"Lab ")


@pytest.mark.parametrize(("ink", "expected"), [((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((0, 255, 0, 0), 119)])
def test_load_picture_converts_printers_inks(ink, expected, tmp_path):
    path = saved(tmp_path, Image.new("CMYK", SIZE, ink), "p.tif", icc_profile=cmyk_profile())
    assert (load_picture(path).int() - expected).abs().max() <= 2


def test_load_picture_goes_on_with_a_broken_profile(tmp_path, caplog):
    for number, profile in enumerate((b"nonsense", cmyk_profile(), rgb_profile("p3", 2.2)[:200])):
        path = saved(tmp_path, Image.new("RGB", SIZE, (200, 100, 50)), f"p{number}.png", icc_profile=profile)
        assert (load_picture(path) == torch.tensor([200, 100, 50], dtype=torch.uint8)).all()
        assert f"p{number}.png: its colour profile cannot be used" in caplog.text


def test_load_picture_leaves_srgb_as_it_is(tmp_path, caplog):
    from PIL import ImageCms

    pixels = np.random.default_rng(0).integers(0, 256, (130, 160, 3), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = load_picture(saved(tmp_path, Image.fromarray(pixels), icc_profile=profile))
    assert np.array_equal(found.numpy(), pixels) and not caplog.records


def test_load_picture_takes_the_first_of_a_phone_s_two_pictures(tmp_path):
    first, second = Image.new("RGB", SIZE, (200, 10, 10)), Image.new("RGB", SIZE, (10, 10, 200))
    first.save(tmp_path / "p.jpg", format="MPO", save_all=True, append_images=[second])
    assert (load_picture(tmp_path / "p.jpg")[64, 64].int() - torch.tensor([200, 10, 10])).abs().max() < 8


def heic_start(brand: bytes) -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(1000)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_load_picture_names_what_heic_needs(brand, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "p.heic").write_bytes(heic_start(brand))
    with pytest.raises(MissingDependency, match=r"p\.heic is a HEIC picture, which needs pillow-heif: pip install"):
        load_picture(tmp_path / "p.heic")


@pytest.mark.parametrize("orientation", [1, 6])
def test_load_picture_reads_heic(orientation, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((130, 160, 3), np.uint8)
    pixels[:65] = (200, 60, 60)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels)
    image.info["icc_profile"] = rgb_profile("p3", 2.2)
    heif = pillow_heif.from_pillow(image)
    heif.info["exif"] = exif.tobytes()
    heif.save(tmp_path / "p.heic", quality=95)
    found = load_picture(tmp_path / "p.heic").int()
    expected = srgb_of((np.array([200, 60, 60]) / 255) ** 2.2 @ (np.linalg.inv(to_pcs("srgb")) @ to_pcs("p3")).T)
    assert found.shape == ((160, 130, 3) if orientation == 6 else (130, 160, 3))
    at = (80, 110) if orientation == 6 else (20, 80)  # what was up is on the right
    assert (found[at] - torch.tensor(expected)).abs().max() <= 6
    (tmp_path / "cut.heic").write_bytes((tmp_path / "p.heic").read_bytes()[:600])
    with pytest.raises(MediaError, match=r"cut\.heic is damaged"):
        load_picture(tmp_path / "cut.heic")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_load_picture_reads_avif(tmp_path):
    pixels = np.zeros((130, 160, 3), np.uint8)
    pixels[:65] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    found = load_picture(saved(tmp_path, Image.fromarray(pixels), "p.avif", exif=exif, quality=95)).int()
    assert found.shape == (160, 130, 3)
    assert (found[:, 70:] > 245).all() and (found[:, :60] < 10).all()


def test_load_picture_names_what_avif_needs(tmp_path, monkeypatch):
    content = io.BytesIO()
    content.write(struct.pack(">I", 24) + b"ftypavif" + bytes(4) + b"mif1avif" + bytes(100))
    (tmp_path / "p.avif").write_bytes(content.getvalue())
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    with pytest.raises(MediaError, match=r"AVIF picture, which needs Pillow 11\.3"):
        load_picture(tmp_path / "p.avif")


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
