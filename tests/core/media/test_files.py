"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portraittalk_core.errors import MediaError, MissingFileError, OutputError
from portraittalk_core.media import files
from portraittalk_core.media.files import (
    PartFile,
    atomic_write,
    check_readable,
    check_writable,
    make_folder,
    open_media,
)


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
def test_make_folder_makes_all_of_it_and_tells_what_is_in_the_way(tmp_path):
    assert make_folder(make_folder(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"):
        make_folder(tmp_path / "file" / "b")


def test_check_writable_rejects_devices():
    with pytest.raises(OutputError, match="device"):
        check_writable(Path("/dev/null"))


def test_paths_that_no_system_takes_are_refused_in_words(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "pool")
    (tmp_path / "pool").symlink_to(tmp_path / "loop")
    told = {
        tmp_path / "a\0b.wav": r"a\\0b\.wav is no name",
        tmp_path / ("long" * 100): "name is too long",
        tmp_path / "loop": "link that leads back",
        tmp_path / "loop" / "a.wav": "link that leads back",
        tmp_path / "none": "does not exist",
        tmp_path: "is a folder",
    }
    for path, said in told.items():
        with pytest.raises(MediaError, match=said):
            check_readable(path)
    for name, said in (("a\0b.mp4", "NUL"), ("long" * 100, "too long")):
        with pytest.raises(OutputError, match=said):
            check_writable(tmp_path / name)


def test_a_missing_file_is_named_in_other_processes_too(tmp_path):
    with pytest.raises(MissingFileError, match="none.wav does not exist; check the path") as raised:
        check_readable(str(tmp_path / "none.wav"))
    sent = pickle.loads(pickle.dumps(raised.value))
    assert (sent.path, str(sent)) == (tmp_path / "none.wav", str(raised.value))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in this system's folders")
def test_check_readable_does_not_wait_for_pipes_sockets_and_devices(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.wav")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("socket.wav")
        (tmp_path / "link.wav").symlink_to(tmp_path / "pipe.wav")
        for path in (tmp_path / "pipe.wav", tmp_path / "link.wav", Path("socket.wav"), Path("/dev/zero")):
            with pytest.raises(MediaError, match=f"{path} is a pipe, socket or device"):
                check_readable(path)


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.wav\n#EXT-X-ENDLIST\n",
    "list.txt": "ffconcat version 1.0\nfile secret.wav\n",
    "list.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    "list.pls": "[playlist]\nFile1=secret.wav\n",
    "list.xml": '<?xml version="1.0" encoding="UTF-8"?>\n<!-- a film -->\n<CompositionPlaylist></CompositionPlaylist>',
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["", ".mp4", ".wav"])
def test_open_media_opens_no_other_file_for_a_playlist(name, suffix, tmp_path, write_sound):
    write_sound([0.0] * 16_000, 16_000, "secret.wav")
    path = tmp_path / f"{name}{suffix}"
    path.write_text(PLAYLISTS[name])
    with pytest.raises(MediaError, match=f"{path.name} is a playlist of other files"):
        open_media(path)


def test_open_media_takes_a_name_for_no_pattern(tmp_path):
    from PIL import Image

    for index in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / f"a{index}.png")
    shutil.copy(tmp_path / "a1.png", tmp_path / "a%d.png")
    with pytest.raises(MediaError, match="is a picture"):
        open_media(tmp_path / "a%d.png")


def test_open_media_reads_sound_and_video_under_any_name(tmp_path, write_sound, write_video):
    for path in (write_sound([0.0] * 800, 8000, "a.flac", "flac"), write_video([0] * 3, "v.mkv")):
        other = path.rename(path.with_suffix(".m3u8"))
        with open_media(other) as container:
            assert len(container.streams) == 1


HELD = """
import sys, time
from pathlib import Path
from portraittalk_core.media.files import PartFile
part = PartFile(Path(sys.argv[1]))
part.path.write_text("half")
print(part.path, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path, monkeypatch):
    argv = [sys.executable, "-c", HELD, str(tmp_path / "film.mp4")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        part = Path(process.stdout.readline().strip())
        try:
            with atomic_write(tmp_path / "other.txt"):
                assert part.exists()  # its writer lives
        finally:
            process.kill()
    assert part.exists() and files.is_hidden(part)
    monkeypatch.setattr(files, "_swept_s", {})
    with atomic_write(tmp_path / "other.txt"):
        assert not part.exists()
    assert os.listdir(tmp_path) == ["other.txt"]


def test_removing_leftovers_spares_everything_else(tmp_path):
    names = [".film.part.mp4", ".film.0123abcd.part", "film.0123abcd.part.mp4", ".notes", ".film.0123abcd.mp4", "v.mp4"]
    left = [".film.0123abcd.part.mp4", ".step_10.89abcdef.part.safetensors", ".a.b.00000000.part.txt"]
    for name in names + left:
        (tmp_path / name).touch()
    (tmp_path / ".folder.0123abcd.part.mp4").mkdir()
    with PartFile(tmp_path / "film.mp4") as mine:
        found = {path.name for path in tmp_path.iterdir()}
    names.remove(".film.0123abcd.part")  # a part without a suffix is one too
    assert found == {*names, ".folder.0123abcd.part.mp4", mine.path.name}


def test_without_locks_a_leftover_is_removed_when_it_is_old(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    old, fresh = tmp_path / ".old.0123abcd.part.mp4", tmp_path / ".new.0123abcd.part.mp4"
    for path in (old, fresh):
        path.touch()
    os.utime(old, (time.time() - 100_000,) * 2)
    with atomic_write(tmp_path / "film.mp4"):
        pass
    assert sorted(os.listdir(tmp_path)) == [fresh.name, "film.mp4"]
