"""Workers of Ray whose cluster loses machines, by a stub of Ray with a clock of its own."""

import socket
import time
from types import SimpleNamespace

import pytest
from batch_stubs import Runner, run, table, talks
from stub_ray import StubRay

from portraittalk_core.batch import cluster as batch_cluster
from portraittalk_core.batch import run as batch_run
from portraittalk_core.batch import workers as batch_workers
from portraittalk_core.batch.jobs import Outcome
from portraittalk_core.batch.options import BatchOptions


@pytest.fixture
def folder(tmp_path):
    for name in ("me.png", "a.wav"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def run_on(monkeypatch, folder):
    """Runs so many talk jobs on a stub cluster; returns the result and the table."""

    def run_jobs(ray, count, ends=(), **options):
        def sleep(seconds):
            ray.now_s += max(seconds, 0.01)

        clock = SimpleNamespace(monotonic=lambda: ray.now_s, perf_counter=time.perf_counter, sleep=sleep)
        for module in (batch_run, batch_workers):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(batch_workers, "import_ray", lambda: ray)
        monkeypatch.setattr(batch_workers, "connect", lambda *_: None)
        made = run(talks(folder, count), Runner(ends), BatchOptions(address="auto", wait_s=0, **options))
        return made, table(folder)

    return run_jobs


def test_jobs_of_a_lost_machine_are_done_by_the_others(run_on):
    ray = StubRay(2, {0.5: StubRay.lose})
    result, rows = run_on(ray, 5)
    assert (result.done, result.failed, result.workers) == (5, 0, 2)
    assert sorted(int(row["attempts"]) for row in rows) == [1, 1, 1, 1, 2]
    assert ray.now_s < 10  # one after the other, on the machine that is left
    assert ray.is_shut


def test_a_lost_machine_is_named(run_on):
    result, rows = run_on(StubRay(2, {0.5: StubRay.lose}), 3, retries=0)
    assert (result.done, result.failed) == (2, 1)
    assert [row["reason"] for row in rows if row["status"] == "failed"] == [
        "the machine 10.0.0.1 that it ran on left the cluster"
    ]


def test_idle_workers_of_a_lost_machine_cost_no_attempts(run_on):
    """The machine is lost while five of its six workers have nothing to do."""
    ray = StubRay(7, {1.9: StubRay.lose})
    ray.cpus = ["10.0.0.7", "10.0.0.0", *["10.0.0.7"] * 5]
    again = [Outcome("failed", 0, "x", again=True), Outcome("done")]
    result, rows = run_on(ray, 1, {"v0.mp4": again}, retries=2)
    assert (result.done, result.failed) == (1, 0)
    assert [row["attempts"] for row in rows] == ["3"]  # one that failed by itself, one that the machine took along


def test_a_worker_that_dies_by_itself_is_replaced(run_on):
    def end_worker(ray):
        ray.lose("The worker process exited unexpectedly.")
        ray.cpus.append("10.0.0.1")

    result, rows = run_on(StubRay(2, {0.5: end_worker}), 6)
    assert (result.done, result.failed) == (6, 0)
    _, rows = run_on(StubRay(2, {0.5: end_worker}), 6, retries=0)
    assert ["the worker died" in row["reason"] for row in rows if row["status"] == "failed"] == [True]


def test_without_any_cpu_every_job_is_told_after_the_stated_time(run_on, caplog):
    ray = StubRay(0)
    ray.promised = 4  # others use them
    result, rows = run_on(ray, 300, cpu_wait_s=60)
    assert (result.done, result.failed) == (0, 300)
    assert 60 <= ray.now_s < 62
    for row in rows:
        assert row["attempts"] == "0"
        assert "no CPU was free for 60 s" in row["reason"] and "--cpu-wait waits longer" in row["reason"]
    assert [record.getMessage() for record in caplog.records if "waiting for up to 60 s" in record.getMessage()]


def test_when_the_last_machine_is_lost_what_is_done_is_kept_and_the_rest_is_told(run_on):
    ray = StubRay(1, {3.5: StubRay.lose})
    result, rows = run_on(ray, 20, cpu_wait_s=30)
    assert len(rows) == 20
    assert (result.done, result.failed) == (3, 17)
    reasons = {row["reason"].partition(". ")[0] for row in rows if row["status"] == "failed"}
    assert reasons == {"no CPU was free for 30 s: no machine of the cluster is left"}
    assert 33 < ray.now_s < 36


def test_when_the_head_is_lost_every_job_is_told(run_on, monkeypatch):
    ray = StubRay(1)
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen()
        ray.head = "{}:{}".format(*head.getsockname())
        times = SimpleNamespace(monotonic=lambda: ray.now_s)
        monkeypatch.setattr(batch_cluster, "time", times)
        ray.events[3.5] = lambda _: head.close()
        result, rows = run_on(ray, 60)
    assert result.done > 3 and result.done + result.failed == len(rows) == 60
    assert ray.now_s < 3.5 + batch_cluster.SILENCE_S + 3 * batch_cluster.LOOK_S
    reasons = {row["reason"] for row in rows if row["status"] == "failed"}
    assert len(reasons) == 1 and f"head of the cluster is lost ({ray.head} does not answer" in reasons.pop()


def test_a_client_that_loses_its_connection_tells_every_job(run_on):
    def cut(ray):
        raise ConnectionError("the Ray client has already been disconnected")

    result, rows = run_on(StubRay(1, {2.5: cut}), 5)
    assert (result.done, result.failed) == (2, 3)
    assert all("already been disconnected" in row["reason"] for row in rows if row["status"] == "failed")


def test_a_cpu_that_comes_back_in_time_is_used(run_on):
    ray = StubRay(1, {1.5: StubRay.lose, 40.0: lambda ray: ray.cpus.append("10.0.0.9")})
    result, _ = run_on(ray, 4, cpu_wait_s=60)
    assert (result.done, result.failed) == (4, 0)


def test_workers_that_cannot_start_are_told_and_not_tried_for_ever(run_on, caplog):
    ray = StubRay(3)
    ray.why_no_start = "The actor died.\n  File x\nModuleNotFoundError: No module named 'portraittalk_core'"
    result, rows = run_on(ray, 3)
    assert result.failed == 3
    for row in rows:
        assert "No module named 'portraittalk_core'" in row["reason"] and "installed on every machine" in row["reason"]
    assert len(caplog.records) == 1, "the same words once"
