"""The mark in a file's metadata that says its pictures are AI-generated; no pixel changes.

Pictures hold it as XMP, in the property DigitalSourceType of IPTC's extension schema. Videos hold it as text in the
container's `comment` and `description`, Matroska in `DIGITAL_SOURCE_TYPE` too; MP4 also holds the XMP packet.

Source: IPTC Photo Metadata Standard 2023.2, "Digital Source Type" (cv.iptc.org/newscodes/digitalsourcetype); Adobe, XMP
Specification Part 3 (where each kind of file holds a packet).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from xml.sax.saxutils import escape

from .. import __version__

VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"  # a portrait or film in which a network moves or paints a face
TRAINED = "trainedAlgorithmicMedia"  # all of it comes from a network
TOOL = f"PortraitTalk {__version__}"

PNG_KEY = "XML:com.adobe.xmp"
TIFF_TAG = 700
JPEG_MARKER, JPEG_NAME = b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0"
MP4_SUFFIXES = (".mp4", ".m4v")
MP4_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # of the box that holds an XMP packet

_marking: ContextVar[bool] = ContextVar("ai_mark", default=True)


@contextmanager
def ai_mark(on: bool) -> Iterator[None]:
    """Mark what is written meanwhile as AI-generated, or leave the mark out. Outside of this, everything is marked."""
    token = _marking.set(on)
    try:
        yield
    finally:
        _marking.reset(token)


def marking() -> bool:
    """Whether made pictures are marked now."""
    return _marking.get()


def sentence(source: str) -> str:
    """The mark as a sentence.

    Args:
        source: COMPOSITE or TRAINED.
    """
    return f"AI-generated: made with {TOOL}. IPTC digital source type: {VOCABULARY}{source}"


def xmp(source: str) -> bytes:
    """The mark as an XMP packet.

    Args:
        source: COMPOSITE or TRAINED.
    """
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
        f"<Iptc4xmpExt:DigitalSourceType>{VOCABULARY}{source}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>{escape(TOOL)}</xmp:CreatorTool>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(sentence(source))}</rdf:li></rdf:Alt>'
        '</dc:description></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def picture_options(suffix: str, source: str) -> dict[str, object]:
    """Arguments of Pillow's `save` that put the mark into a picture; none for BMP, which has no place for it.

    Args:
        suffix: of the file, in lower case.
        source: COMPOSITE or TRAINED.
    """
    packet = xmp(source)
    if suffix == ".png":
        from PIL import PngImagePlugin

        text = PngImagePlugin.PngInfo()
        text.add_itxt(PNG_KEY, packet.decode())
        return {"pnginfo": text}
    if suffix in (".jpg", ".jpeg"):
        content = JPEG_NAME + packet
        return {"extra": JPEG_MARKER + struct.pack(">H", len(content) + 2) + content}
    if suffix == ".webp":
        return {"xmp": packet}
    return {"tiffinfo": {TIFF_TAG: packet}} if suffix in (".tif", ".tiff") else {}


def video_tags(source: str) -> dict[str, str]:
    """The mark as metadata of a container, by FFmpeg's names.

    Args:
        source: COMPOSITE or TRAINED.
    """
    return {"comment": sentence(source), "description": sentence(source), "digital_source_type": VOCABULARY + source}


def append_xmp(path: Path, source: str) -> None:
    """Append the packet to a finished MP4 file, as a box of its own; nothing to other kinds.

    Args:
        path: a file that ends in .mp4 or another suffix.
        source: COMPOSITE or TRAINED.

    Raises:
        OSError: the file cannot be written.
    """
    if path.suffix.lower() not in MP4_SUFFIXES:
        return
    content = MP4_UUID + xmp(source)
    with path.open("ab") as file:
        file.write(struct.pack(">I", len(content) + 8) + b"uuid" + content)
