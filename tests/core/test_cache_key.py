import os
from pathlib import Path

import pytest

from portraittalk_core import cache_key as module
from portraittalk_core.cache_key import cache_key, file_digest

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def test_file_digest_matches_the_standard(tmp_path, monkeypatch):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_digest(path) == ABC
    monkeypatch.setattr(module, "READ_BYTES", 2)  # block by block
    assert file_digest(path) == ABC
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none")


def test_cache_key_is_of_the_sorted_json():
    # printf '{"a": [1, null, "x/y"], "b": 0.5}' | sha256sum
    expected = "a856c5a7fe270596a1ce3ba9a6914019674f012c9a31fba8ad94cbb1644c00e7"
    assert cache_key({"b": 0.5, "a": (1, None, Path("x/y"))}) == expected
    assert cache_key({"b": 0.5, "a": (1, None, object())}, default=lambda _: "x/y") == expected
    assert cache_key({"b": 0.25, "a": (1, None, "x/y")}) != expected


@pytest.mark.skipif(os.name == "nt", reason="no such files there")
def test_what_has_no_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("fifo", "zero", ""):
        with pytest.raises(OSError, match="no file"):
            file_digest(tmp_path / name)
