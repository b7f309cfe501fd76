"""The key of a command's finished sections: files count by their content."""

from argparse import Namespace
from pathlib import Path

from portraittalk_core.cli.resume import job_key


def test_masks_of_faces_count_by_their_content(tmp_path):
    mask, other, sound = (tmp_path / name for name in ("a.png", "b.png", "s.wav"))

    def key(face: str | None = str(mask)) -> str:
        return job_key(Namespace(face=face, also=[[str(other), Path(sound)]], seed=1))

    for path in (mask, other, sound):
        path.write_bytes(b"1")
    first = key()
    for path in (mask, other, sound):
        path.write_bytes(b"2")
        assert key() != first
        path.write_bytes(b"1")
        assert key() == first
    assert len({key(face) for face in (None, "0,0,9,9", str(mask), "x" * 5000)}) == 4
