"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from portraittalk_core.errors import OutputError
from portraittalk_core.media.files import atomic_write, check_writable


def test_whole_file_appears_at_the_end(tmp_path):
    (tmp_path / "a.txt").write_text("older")
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("newer")
        assert part.suffix == ".txt" and part.parent == tmp_path
        assert (tmp_path / "a.txt").read_text() == "older"
    assert (tmp_path / "a.txt").read_text() == "newer"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_whole_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual.txt").touch()
    with atomic_write(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "usual.txt").stat().st_mode


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_whole_file_leaves_nothing_when_stopped(kind, tmp_path):
    with pytest.raises(kind), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise kind
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "disk is full"), (errno.EIO, "error")]
)
def test_whole_file_explains_what_the_system_refuses(number, said, tmp_path):
    with pytest.raises(OutputError, match=rf"a\.txt: .*{said}"), atomic_write(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_whole_file_explains_a_disk_that_is_really_full(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), atomic_write(tmp_path / "a.txt") as part:
        part.unlink()
        part.symlink_to("/dev/full")
        part.write_text("x")
    assert os.listdir(tmp_path) == []


def test_whole_file_takes_long_names(tmp_path):
    name = "é" * 120 + ".png"  # 244 bytes
    with atomic_write(tmp_path / name):
        pass
    assert (tmp_path / name).exists()


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no /dev/null on this system")
def test_check_writable_rejects_devices():
    from pathlib import Path

    with pytest.raises(OutputError, match="device"):
        check_writable(Path("/dev/null"))
