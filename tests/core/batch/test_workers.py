"""A batch on real workers of Ray: one run, looked at from several sides."""

import json
import subprocess
import sys
import warnings

import pytest
from batch_stubs import QUICK, manifest, run, table

from portraittalk_core.errors import InputError

pytestmark = pytest.mark.slow  # Ray and torch start anew in every worker
PLAIN_RAY = (
    "import ray; ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False); "
    "assert ray.get(ray.remote(lambda: 7).remote()) == 7; ray.shutdown()"
)
ROWS = (
    "score,s0,,,v0.mp4,true.mp4",
    "score,s9,,,none.mp4,true.mp4",
    *(f"talk,v{k},me.png,a.wav,," for k in range(6)),
    "talk,none,me.png,a.wav,,",
)


def remote_class(out):
    """A runner that writes what jobs make; the first attempt at v0 takes its process along."""

    class Remote:  # local to the function, so that it travels to the workers
        def run(self, job, on_progress=None):
            import os
            import time

            from portraittalk_core.batch.jobs import Outcome
            from portraittalk_core.evaluation.result import EvaluationResult

            tries = len(list(out.glob(f"{job.out}.*.try")))
            (out / f"{job.out}.{tries}.try").write_text(str(os.getpid()))
            if job.out == "v0.mp4" and not tries:
                (out / ".v0.0123abcd.part.mp4").write_text("half")
                os._exit(1)
            if job.out == "none.mp4":
                return Outcome("failed", 0.1, "no face")
            lacks = [name for name, path in job.files.items() if not path.is_file()]
            if lacks:
                return Outcome("failed", 0.1, f"began without its {lacks}")
            end = time.monotonic() + 300  # until two workers and who takes the dead one's place have begun a job
            while len({path.read_text() for path in out.glob("v*.try")}) < 3 and time.monotonic() < end:
                time.sleep(0.02)
            row = EvaluationResult(job.out, "a", "b", values={"adfd": 0.5})
            (out / job.out).write_text(row.to_json() if job.job == "score" else "video")
            return Outcome("done", 0.3)

        def close(self):
            pass

    return Remote


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def ended(tmp_path_factory, monkeypatch_module):
    """Folder and result of a batch on two workers."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("ray")
    for name in ("me.png", "a.wav", "true.mp4"):
        (folder / name).write_bytes(name.encode())
    path = manifest(folder, *ROWS, columns="job,out,portrait,speech,generated,target")
    make = remote_class(folder / "out")
    # what other programs hold in memory must not make Ray end these small workers
    monkeypatch_module.setenv("RAY_memory_monitor_refresh_ms", "0")
    try:
        return folder, run(path, None, replace(QUICK, workers=2), make_runner=make)
    except InputError as error:
        if "Ray could not be started" not in str(error):
            raise
        _skip_if_plain_ray_fails(str(error))
        raise


def _skip_if_plain_ray_fails(said: str) -> None:
    """Skip, loudly, where Ray cannot start without any of this project either: then the machine is the reason."""
    words = [sys.executable, "-c", PLAIN_RAY]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        reason = "a plain ray.init() did not come back within 120 s"
    else:
        if not done.returncode:
            return
        reason = (done.stderr.strip().splitlines() or ["it died without a word"])[-1]
    text = f"NOT TESTED: Ray cannot start on this machine ({reason}); the batch said: {said}"
    warnings.warn(text, stacklevel=2)
    pytest.skip(text)


def test_two_workers_of_ray_share_the_work_and_survive_a_death(ended):
    folder, result = ended
    assert (result.done, result.failed, result.blocked, result.workers) == (7, 1, 1, 2)
    rows = {row["out"]: row for row in table(folder)}
    assert rows["v0.mp4"]["attempts"] == "2"
    assert [rows[f"v{k}.mp4"]["attempts"] for k in range(1, 6)] == ["1"] * 5
    out = folder / "out"
    assert len({path.read_text() for path in out.glob("v*.try")}) >= 3  # two workers, and who took the dead one's place
    assert not list(out.glob(".*.part*"))


def test_on_ray_too_a_score_waits_for_its_video_or_is_skipped(ended):
    folder, result = ended
    rows = table(folder)
    told = {row["out"]: (row["status"], row["reason"]) for row in rows}
    assert told["s0.json"] == ("done", "")
    assert told["s9.json"] == ("blocked", "its video none.mp4 was not made (line 10 failed)")
    assert not list((folder / "out").glob("s9.json*"))
    places = [row["out"] for row in rows]
    assert places.index("s0.json") > places.index("v0.mp4")
    assert json.loads((folder / "out" / "s0.json").read_text())["values"] == {"adfd": 0.5}
    assert "none.mp4 was not made" in result.report.read_text(encoding="utf-8")
