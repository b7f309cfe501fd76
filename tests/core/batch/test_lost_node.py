"""A batch on a real cluster of Ray, of which one of two machines is lost in the middle."""

import csv
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from batch_stubs import talks
from ray_nodes import HEAD, OTHER, RayNodes, why_not

pytestmark = pytest.mark.slow  # two nodes of Ray start
PROGRAM = Path(__file__).parents[2] / "support" / "batch_on_nodes.py"
HOLD_CPU = (
    "import sys, time, ray; ray.init(address=sys.argv[1], log_to_driver=False)\n"
    "class Holder:\n"
    "    def hold(self): return 1\n"
    "holder = ray.remote(num_cpus=1)(Holder).remote(); ray.get(holder.hold.remote())\n"
    "print('held', flush=True); time.sleep(300)"
)
NUM_JOBS = 8
END_S = 180.0  # Ray itself takes up to half a minute to notice a machine that does not answer


@pytest.fixture
def folder(tmp_path, request):
    pytest.importorskip("ray")
    if not request.config.getoption("--cluster"):
        pytest.skip("NOT TESTED without --cluster (`make cluster`): it waits four minutes for Ray to notice its losses")
    if reason := why_not():
        text = f"NOT TESTED: the loss of a cluster's machine; no network namespaces here ({reason})"
        warnings.warn(text, stacklevel=2)
        pytest.skip(text)
    for name in ("me.png", "a.wav"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def begin(nodes, folder, wait_s=60, num_jobs=NUM_JOBS):
    words = [
        sys.executable,
        str(PROGRAM),
        str(talks(folder, num_jobs)),
        str(folder / "out"),
        nodes.address,
        str(wait_s),
    ]
    return nodes.run(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(folder, pattern, process):
    end = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the other machine got no job"
        time.sleep(0.05)


def ended(process, folder):
    """What the program said, and the table."""
    said, errors = process.communicate(timeout=END_S)
    assert process.returncode == 0, errors
    with (folder / "out" / "batch.csv").open(newline="", encoding="utf-8") as file:
        return json.loads(said.splitlines()[-1]), list(csv.DictReader(file)), errors


@pytest.mark.parametrize("lose", [RayNodes.kill_other, RayNodes.pull_cable])
def test_the_jobs_of_a_lost_machine_are_done_on_the_other(folder, lose):
    with RayNodes() as nodes:
        process = begin(nodes, folder)
        wait_for(folder / "out", f"*.{OTHER}.try", process)
        lose(nodes)
        result, rows, _ = ended(process, folder)
    assert (result["done"], result["failed"], result["workers"]) == (NUM_JOBS, 0, 2)
    assert sorted(row["out"] for row in rows) == [f"v{k}.mp4" for k in range(NUM_JOBS)]
    assert max(int(row["attempts"]) for row in rows) == 2
    out = folder / "out"
    assert len(list(out.glob("v?.mp4"))) == NUM_JOBS
    assert list(out.glob(f"*.{HEAD}.try"))
    assert not list(out.glob(".*"))  # neither half-written files nor the lock


def test_without_the_head_what_is_done_is_kept_and_the_rest_is_told(folder):
    """Ray would end the process after a minute, without a word."""
    with RayNodes() as nodes:
        process = begin(nodes, folder, num_jobs=100)  # the other machine goes on until the loss is certain
        wait_for(folder / "out", "v1.mp4", process)
        nodes.kill_head()
        result, rows, _ = ended(process, folder)
    assert result["done"] >= 2 and result["done"] + result["failed"] == len(rows) == 100
    assert {row["status"] for row in rows} == {"done", "failed"}
    for row in rows:
        assert row["status"] == "done" or "the head of the cluster is lost" in row["reason"]


def test_where_others_hold_every_cpu_the_jobs_are_told(folder):
    with RayNodes() as nodes:
        nodes.kill_other()
        holder = nodes.run(sys.executable, "-c", HOLD_CPU, nodes.address, stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        result, rows, errors = ended(begin(nodes, folder, wait_s=12), folder)
        holder.kill()
    assert (result["done"], result["failed"]) == (0, NUM_JOBS)
    assert time.monotonic() - started < 90
    assert len(rows) == NUM_JOBS
    for row in rows:
        assert "no CPU was free for 12 s: the cluster has 1 on 1 machine, which others use" in row["reason"]
