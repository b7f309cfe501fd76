"""Tables in temporary files: they hold what tensors hold, leave memory when told to, and leave nothing behind."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from portraittalk_core import memory_map
from portraittalk_core.errors import OutputError
from portraittalk_core.face.mesh.tracking import Seen, filled

ROOT = Path(__file__).parents[2]


@pytest.fixture
def _small_memory(monkeypatch):
    monkeypatch.setattr(memory_map, "MOST_IN_MEMORY", 100_000)


def resident_kb() -> int:
    """Of what is mapped from files."""
    return next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "RssFile" in line
    )


@pytest.mark.usefixtures("_small_memory")
@pytest.mark.parametrize("count", [5, 300, 1500])
def test_rows_are_what_was_added(count):
    rows = torch.randn(count, 7, 3, generator=torch.Generator().manual_seed(count))
    gathered = memory_map.MappedRows(7, 3)
    for number, row in enumerate(rows):
        gathered.add(None if number % 100 == 3 else row)
    rows[3::100] = 0
    table = gathered.table()
    memory_map.release_memory()
    assert len(gathered) == count and torch.equal(table, rows)
    table += 1  # can be written
    memory_map.release_memory()
    assert torch.equal(table, rows + 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    assert torch.equal(memory_map.gathered(table, order), rows[order] + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="how much is resident is told by Linux")
def test_large_tables_leave_memory_and_keep_their_values():
    table = memory_map.mapped_tensor(8_000_000)  # 32 MB
    before = resident_kb()
    table.copy_(torch.arange(8_000_000))
    held = resident_kb()
    memory_map.release_memory()
    assert held - before > 30_000 and resident_kb() - before < 2_000
    assert table[7_654_321] == 7_654_321


@pytest.mark.usefixtures("_small_memory")
def test_a_row_is_extended_or_cut_and_copied_only_once():
    row = torch.randn(60_000, generator=torch.Generator().manual_seed(0))
    kept = memory_map.extended(row, 60_000)
    assert kept.data_ptr() != row.data_ptr() and torch.equal(kept, row)
    assert memory_map.extended(kept[5:], 50_000).data_ptr() == kept[5:].data_ptr()
    longer = memory_map.extended(kept, 70_000)
    assert torch.equal(longer[:60_000], row) and not longer[60_000:].any()
    assert memory_map.extended(row, 3).data_ptr() == row.data_ptr()  # small


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the files of a process are told by Linux")
def test_a_killed_process_leaves_no_file(tmp_path):
    """Its table's file has no name from the beginning."""
    program = (
        "import os, signal; from portraittalk_core import memory_map; memory_map.mapped_tensor(8_000_000).fill_(1)\n"
        "print(len(os.listdir(os.environ['TMPDIR'])), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == -9 and done.stdout.strip() == "0" and not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_small_memory")
def test_a_full_disk_is_told_before_anything_is_lost(monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(memory_map, "_reserve", full)
    with pytest.raises(OutputError, match=r"temporary file of 4 MB .* cannot be written .*No space left.* set TMPDIR"):
        memory_map.mapped_tensor(1_000_000)


def test_gaps_are_filled_the_same_in_a_file(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    frames = [None if at % 9 in (0, 4, 5) else torch.rand(478, 3, generator=draw) for at in range(600)]
    expected = {how: filled(frames, how) for how in ("hold", "interpolate")}
    monkeypatch.setattr(memory_map, "MOST_IN_MEMORY", 1)
    for how, points in expected.items():
        seen = Seen()
        for frame in frames:
            seen.add(frame)
        assert torch.equal(seen.filled(how), points)
