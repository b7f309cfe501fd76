"""The reader of dlib's serialisation, on bytes as dlib's serialize.h describes them."""

import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from convert_face_descriptor import Reader, layers  # noqa: E402


def test_whole_and_real_numbers_texts_and_tensors_are_read():
    """Mantissa and exponent of 0.625 are 5 and −3; 300 is 2c 01 in two bytes."""
    content = b"\x02\x2c\x01" + b"\x81\x07" + b"\x01\x05\x81\x03" + b"\x01\x04fc_2"
    reader = Reader(content, 0)
    assert (reader.whole(), reader.whole(), reader.real(), reader.text()) == (300, -7, 0.625, "fc_2")
    reader = Reader(b"\x01\x02\x01\x01\x01\x01\x01\x01\x01\x02" + struct.pack("<2f", 1.5, -2), 0)
    assert reader.tensor().tolist() == [[[[1.5, -2.0]]]]


def test_files_that_are_cut_or_of_another_network_are_refused():
    with pytest.raises(ValueError, match="ends too early"):
        Reader(b"\x01\x02\x01\x01\x01\x01\x01\x01\x01\x02\0\0", 0).tensor()
    with pytest.raises(ValueError, match="version 1"):
        Reader(b"\x01\x01" + b"\x01\x01" * 4, 0).tensor()
    with pytest.raises(ValueError, match="not found"):
        layers(b"a network of another kind")
    sides = b"\x01\x60\x01\x60"  # 96×96
    with pytest.raises(ValueError, match="150"):
        layers(b"input_rgb_image_sized" + b"\x01\x01\x01\x00" * 3 + sides)
