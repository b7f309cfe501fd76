import importlib
import json
import os
import shutil
import socket
import sys
import time
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch
from batch_stubs import Runner, manifest, run, table, talks
from PIL import Image

from portraittalk_core.batch import cluster as batch_cluster
from portraittalk_core.batch import jobs as batch_jobs
from portraittalk_core.batch import run as batch_run
from portraittalk_core.batch.jobs import BatchSettings, JobRunner, Outcome
from portraittalk_core.batch.manifest import read_manifest
from portraittalk_core.batch.plan import BatchPlan
from portraittalk_core.batch.run import COLUMNS, BatchOptions, run_batch
from portraittalk_core.engines.builtin.closure_net import ClosureNet
from portraittalk_core.engines.builtin.mouth_model import save_closures
from portraittalk_core.errors import InputError, MissingDependency, OutputError
from portraittalk_core.renderers import registry
from portraittalk_core.types import Speech


@pytest.fixture
def folder(tmp_path):
    for name in ("me.png", "a.wav", "made.mp4", "true.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_manifest_of_both_jobs_with_options_in_columns_and_json(folder):
    columns = "\ufeffJob; out;portrait;speech;style;generated;target;mouth_gain;options;note;;"
    rows = (
        'talk;x;me.png;a.wav;calm;;;1.5;"{""seed"": 3, ""mouth_gain"": 2}";hello',
        "",
        "score;y.json;;;;made.mp4;;;;;",
    )
    talk, score = read_manifest(manifest(folder, *rows, columns=columns))
    assert (talk.line, talk.job, talk.out, talk.style, talk.problem) == (2, "talk", "x.mp4", "calm", None)
    assert talk.options == {"mouth_gain": 1.5, "seed": 3}
    assert talk.files == {"portrait": folder / "me.png", "speech": folder / "a.wav"}
    assert (score.line, score.out, score.files) == (4, "y.json", {"generated": folder / "made.mp4"})


def test_manifest_takes_a_renderer_with_its_options(folder):
    (folder / "sd15.safetensors").write_bytes(b"weights")
    columns = "job,out,portrait,speech,renderer,checkpoint,denoise,faces,seed"
    painted = 'talk,x,me.png,a.wav,identitynet,sd15.safetensors,0.4,"[""me.png""]",3'
    one, two, three, four = read_manifest(
        manifest(
            folder,
            painted,
            "talk,y,me.png,a.wav,,,,,",
            "talk,z,me.png,a.wav,,,0.4,,",
            "talk,u,me.png,a.wav,oil,,,,",
            columns=columns,
        )
    )
    assert (one.renderer, one.problem) == ("identitynet", None)
    assert one.options == {"denoise": 0.4, "faces": ["me.png"], "seed": 3}
    assert one.files["checkpoint"] == folder / "sd15.safetensors"
    assert (two.renderer, two.options) == ("warp", {})
    assert "has no option 'denoise'" in three.problem
    names = ", ".join(spec.name for spec in registry.renderer_specs("portrait"))
    assert f"renderer of a portrait must be one of {names}, not 'oil'" in four.problem


def test_further_faces_lie_beside_the_manifest_and_count_by_their_content(folder):
    for name in ("b.wav", "mask.png", "c d.wav"):
        (folder / name).write_bytes(b"1")
    rows = [
        "dub,x,made.mp4,a.wav, 1 b.wav | mask.png c d.wav",
        'dub,y,made.mp4,a.wav,"0,0,9,9 b.wav"',
        "dub,w,made.mp4,a.wav,1 silence",
        *("dub,z,made.mp4,a.wav,1", "dub,u,made.mp4,a.wav,1 no.wav | no.png b.wav", "dub,v,made.mp4,a.wav,1 x.mp4"),
    ]
    columns = "job,out,video,speech,also"
    two, box, quiet, half, gone, later = read_manifest(manifest(folder, *rows, columns=columns), folder / "out")
    assert two.also == ("1", "") and box.also == ("0,0,9,9",) and batch_jobs._faces(box)[1].box == (0, 0, 9, 9)
    assert batch_jobs._sounds(two)[1:] == [folder / "b.wav", folder / "c d.wav"]
    assert quiet.also == ("1",) and batch_jobs._sounds(quiet)[1:] == [None]
    assert "also must be FACE SOUND pairs with | between them" in half.problem
    assert gone.problem == (
        f"the sound 1 of also {folder / 'no.wav'} does not exist; the face 2 of also {folder / 'no.png'} does not exist"
    )
    assert [need.name for need in later.needs] == ["x.mp4"]  # what line 2 makes
    runner = JobRunner(BatchSettings(folder / "out"))
    first = runner._key(two)
    assert runner._key(replace(two, also=("2", ""))) != first
    for name in ("b.wav", "mask.png", "c d.wav"):
        (folder / name).write_bytes(b"22")
        assert runner._key(two) != first
        (folder / name).write_bytes(b"1")
    assert runner._key(two) == first


@pytest.mark.parametrize(("job", "made"), [("dub", "dub_speakers"), ("talk", "talk_speakers")])
def test_all_faces_speak_their_own_sounds(folder, monkeypatch, job, made):
    given = {}

    def noted(speakers, out, motion, **more):
        given.update(more, speakers=[(one.name, one.speech) for one in speakers])
        out.write_bytes(b"video")

    film = SimpleNamespace(track=SimpleNamespace(seconds=2.0))
    monkeypatch.setattr(batch_jobs, made, noted)
    monkeypatch.setattr(batch_jobs, "read_film", lambda path, face_index, **more: film)
    monkeypatch.setattr(batch_jobs, "find_portrait", lambda *_, **__: "a portrait")
    monkeypatch.setattr(batch_jobs, "load_picture", lambda path: path)
    monkeypatch.setattr(batch_jobs, "load_speech", lambda source, *_: str(getattr(source, "path", source))[-5:])
    monkeypatch.setattr(batch_jobs, "summed_sounds", lambda sources, at_most_s: (len(sources), at_most_s))
    monkeypatch.setattr(batch_jobs, "open_mesh", lambda *_, **__: nullcontext())
    (folder / "out").mkdir()
    (folder / "b.wav").write_bytes(b"b")
    source = "made.mp4" if job == "dub" else "me.png"
    columns = f"job,out,{'video' if job == 'dub' else 'portrait'},speech,also"
    (line,) = read_manifest(manifest(folder, f"{job},x,{source},a.wav,1 b.wav", columns=columns))
    outcome = JobRunner(BatchSettings(folder / "out")).run(line)
    assert outcome.status == "done", outcome.reason
    assert given["speakers"] == [("the face of speech", "a.wav"), ("face 1 of also", "b.wav")]
    assert given["sound"] == (2, 2.0 if job == "dub" else None)


def test_points_over_time_are_files_of_a_talk_job(folder, monkeypatch):
    (folder / "gaze.json").write_text("[[0, 0, 0], [2, 12, -3]]")
    (folder / "gain.json").write_text("[[0, 1], [1, 0]]")
    columns = "job,out,portrait,speech,gaze_points,gain_points,emotion_points,also"
    rows = ["talk,x,me.png,a.wav,gaze.json,gain.json,,", "talk,y,me.png,a.wav,,,no.json,"]
    rows += ["talk,two,me.png,a.wav,gaze.json,,,1 a.wav"]
    one, gone, two = read_manifest(manifest(folder, *rows, columns=columns))
    assert one.files["gaze_points"] == folder / "gaze.json" and not one.options
    assert gone.problem == f"the emotion_points {folder / 'no.json'} does not exist"
    given = {}

    def noted(portrait, speech, out, motion, **more):
        given["motion"] = motion
        out.write_bytes(b"video")

    monkeypatch.setattr(batch_jobs, "talk", noted)
    monkeypatch.setattr(batch_jobs, "find_portrait", lambda *_, **__: "a portrait")
    monkeypatch.setattr(batch_jobs, "load_picture", lambda path: path)
    monkeypatch.setattr(batch_jobs, "load_speech", lambda *_: Speech(torch.zeros(32_000), "two seconds"))
    monkeypatch.setattr(batch_jobs, "open_mesh", lambda *_, **__: nullcontext())
    (folder / "out").mkdir()
    runner = JobRunner(BatchSettings(folder / "out"))
    outcome = runner.run(one)
    assert outcome.status == "done", outcome.reason
    assert given["motion"].gaze_points == ((0, 0, 0), (2, 12, -3))
    assert given["motion"].gain_curve.tolist()[::10] == pytest.approx([1, 0.6, 0.2, 0, 0], abs=0.021)
    key = runner._key(one)
    (folder / "gaze.json").write_text("[]")  # a file counts by its content
    assert runner._key(one) != key
    assert runner.run(two).reason == "gaze_points moves one face, and also names several; leave one of them out"
    film = manifest(folder, "dub,x,made.mp4,a.wav,gaze.json", columns="job,out,video,speech,gaze_points")
    assert "a dub job has no option 'gaze_points'" in next(read_manifest(film)).problem


def test_a_row_that_names_the_first_face_says_so(folder, monkeypatch):
    """So that nobody is warned of the others: a number that is not given is another thing than 0."""
    asked = []
    monkeypatch.setattr(batch_jobs, "find_portrait", lambda picture, which, **_: asked.append(which))
    runner = JobRunner(BatchSettings(folder))
    rows = ["talk,x,me.png,a.wav,,", "talk,y,me.png,a.wav,0,", "talk,z,me.png,a.wav,,1 a.wav"]
    for job in read_manifest(manifest(folder, *rows, columns="job,out,portrait,speech,face_index,also")):
        runner._portraits(job, None)
    assert asked == [None, 0, 0, 1]


def test_a_mask_lies_beside_the_manifest_and_counts_by_its_content(folder):
    Image.new("L", (128, 128)).save(folder / "mask.png")
    rows = ["talk,x,me.png,a.wav,mask.png", 'talk,y,me.png,a.wav,"0,0,9,9"']
    rows.append("talk,z,me.png,a.wav,none.png")
    masked, boxed, gone = read_manifest(manifest(folder, *rows, columns="job,out,portrait,speech,face"))
    assert (masked.files["face"], dict(masked.options), masked.problem) == (folder / "mask.png", {}, None)
    assert gone.problem == f"the face {folder / 'none.png'} does not exist"
    (folder / "b.wav").mkdir()
    (line,) = read_manifest(manifest(folder, "talk,x,me.png,b.wav", columns="job,out,portrait,speech"))
    assert line.problem == f"the speech {folder / 'b.wav'} is a folder, no file"
    assert "face" not in boxed.files and boxed.options == {"face": "0,0,9,9"}
    assert batch_jobs._face(masked).which.name == "mask.png" and batch_jobs._face(boxed).which.box == (0, 0, 9, 9)


@pytest.mark.slow
def test_a_film_is_dubbed_as_its_columns_say(tmp_path, astronaut):
    """Half a second of speech at 4 fps is two frames; the film has one."""
    with av.open(str(tmp_path / "film.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=4, width=256, height=256, pix_fmt="yuv420p")
        picture = astronaut.picture.numpy()[:256, 100:356].copy()
        for frame in (av.VideoFrame.from_ndarray(picture, "rgb24"), None):
            file.mux(stream.encode(frame))
    _half_a_second(tmp_path / "a.wav")
    columns = "job,out,video,speech,film_end,scenes,head_motion,sound_track"
    rows = ["dub,looped,film.mp4,a.wav,loop,all,,1", "dub,plain,film.mp4,a.wav,,,,", "dub,still,film.mp4,a.wav,,,0,"]
    rows += ["dub,wrong,film.mp4,a.wav,backwards,,,", "dub,none,,a.wav,,,,", "dub,second,film.mp4,a.wav,,,,2"]
    result = run(manifest(tmp_path, *rows, columns=columns), JobRunner(BatchSettings(tmp_path / "out")))
    assert (result.done, result.failed) == (2, 4)
    counts = {}
    for name in ("looped", "plain"):
        with av.open(str(tmp_path / "out" / f"{name}.mp4")) as file:
            counts[name] = sum(1 for _ in file.decode(video=0))
    assert counts == {"looped": 2, "plain": 1}
    reasons = " ".join(row["reason"] for row in table(tmp_path))
    assert "a dub job has no option 'head_motion'" in reasons
    assert "film_end must be one of cut, hold, loop, ping-pong" in reasons and "names no video" in reasons
    assert "a.wav has no sound track 2" in reasons


def test_each_job_speaks_by_the_engine_of_its_column(tmp_path, monkeypatch):
    made = []

    def talk(_portrait, _speech, out, _motion, *, engine, **_more):
        made.append((out.name, engine.name, engine.network))
        out.write_bytes(b"video")

    for name in ("load_picture", "find_portrait", "load_speech"):
        monkeypatch.setattr(batch_jobs, name, lambda *_, **__: None)
    monkeypatch.setattr(batch_jobs, "talk", talk)
    monkeypatch.setattr(JobRunner, "_mesh", None)
    for name in ("me.png", "a.wav"):
        (tmp_path / name).write_bytes(name.encode())
    save_closures(ClosureNet(4), tmp_path / "mine.safetensors", {})
    columns = "job,out,portrait,speech,engine,encoder,joyvasa_steps"
    rows = ["talk,own,me.png,a.wav,,,", "talk,mine,me.png,a.wav,mine.safetensors,,", "talk,wrong,me.png,a.wav,a.wav,,"]
    rows += ["talk,absent,me.png,a.wav,none.pt,,", "talk,unused,me.png,a.wav,mine.safetensors,a.wav,30"]
    path = manifest(tmp_path, *rows, columns=columns)
    result = run(path, JobRunner(BatchSettings(tmp_path / "out")))
    assert (result.done, result.failed) == (2, 3)
    network = tmp_path / "mine.safetensors"
    assert made == [("own.mp4", "embedded", None), ("mine.mp4", "embedded", network)]
    reasons = " ".join(row["reason"] for row in table(tmp_path))
    assert "a.wav is not a motion engine" in reasons and "the engine" in reasons and "none.pt does not exist" in reasons
    assert "encoder and joyvasa_steps cannot be used with the engine embedded" in reasons
    save_closures(ClosureNet(4), network, {"trained": "again"})
    assert run(path, JobRunner(BatchSettings(tmp_path / "out"))).done == 1  # what was made with the file before
    assert [name for name, *_ in made[2:]] == ["mine.mp4"]


def test_a_renderer_from_outside_is_a_manifest_column(tmp_path, astronaut):
    sys.modules.pop("outside_renderer", None)
    importlib.import_module("outside_renderer")
    try:
        Image.fromarray(astronaut.picture.numpy()).save(tmp_path / "me.png")
        _half_a_second(tmp_path / "a.wav")
        columns = "job,out,portrait,speech,renderer,shade"
        rows = ["talk,x,me.png,a.wav,flat,70", "talk,y,me.png,a.wav,flat,700"]
        path = manifest(tmp_path, *rows, columns=columns)
        result = run(path, JobRunner(BatchSettings(tmp_path / "out")))
        assert (result.done, result.failed) == (1, 1)
        assert "shade must lie between 0 and 255" in (tmp_path / "out" / "batch.csv").read_text()
        with av.open(str(tmp_path / "out" / "x.mp4")) as file:
            grey = [frame.to_ndarray(format="gray").mean() for frame in file.decode(video=0)]
        assert len(grey) == 13 and all(abs(level - 70) < 3 for level in grey)
    finally:
        registry.unregister("flat")


@pytest.mark.parametrize(
    ("columns", "rows", "told"),
    [
        ("out,portrait,speech", ["x,me.png,a.wav"], "lacks the column job"),
        ("job,out,portrait", ["talk,x,me.png"], "lacks the column speech, which the talk job of line 2"),
        ("job,out,generation", ["score,x,made.mp4"], "'generation', which means nothing"),
        ("job,out,out,generated", ["score,x,x,made.mp4"], "column out twice"),
        ("job,out,portrait,speech", [], "no job below"),
        ("job,out,portrait,speech", ["talk,x,me.png,a.wav", "talk,X.mp4,me.png,a.wav"], "lines 2 and 3 both"),
    ],
)
def test_manifest_rejects_as_a_whole(folder, columns, rows, told):
    with pytest.raises(InputError, match=told):
        BatchPlan(manifest(folder, *rows, columns=columns), folder / "out")


def test_manifest_rejects_what_is_no_text(folder):
    with pytest.raises(InputError, match=r"gone\.csv does not exist"):
        BatchPlan(folder / "gone.csv", folder / "out")
    (folder / "jobs.csv").write_bytes(b"\xff\xfe\x00job")
    with pytest.raises(InputError, match="UTF-8"):
        BatchPlan(folder / "jobs.csv", folder / "out")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("dance,x,me.png,a.wav,", "talk, dub or score, not 'dance'"),
        ("talk,,me.png,a.wav,", "plain file name"),
        ("talk,../x,me.png,a.wav,", "plain file name"),
        ("talk,x,me.png,,", "names no speech"),
        ("talk,x,gone.png,b.wav,", r"portrait .*gone\.png does not exist; the speech .*b\.wav"),
        ("talk,x,me.png,a.wav,[1]", "JSON object"),
        ("talk,x,me.png,a.wav,{", "is not JSON"),
        ('talk,x,me.png,a.wav,{"seed": 1, "crf": 2}', "more cells than columns"),
        ('talk,x,me.png,a.wav,"{""align"": true}"', "talk job has no option 'align'"),
        ('talk,x,me.png,a.wav,"{""seed"": 1.5}"', "seed must be a whole number"),
        ('talk,x,me.png,a.wav,"{""seed"": ' + "[" * 50_000 + '}"', "is not JSON"),
        ('talk,x,me.png,a.wav,"{""seed"": ' + "[" * 500 + "]" * 500 + '}"', "seed must be a whole number"),
        ('talk,x,me.png,a.wav,"{""mouth_gain"": 1e309}"', "mouth_gain must be a number from 0"),
        ('talk,x,me.png,a.wav,"{""mouth_gain"": NaN}"', "mouth_gain must be a number from 0"),
        (f'talk,x,me.png,a.wav,"{{""seed"": {"9" * 5000}}}"', "is not JSON"),
        (f'talk,x,me.png,a.wav,"{{""mouth_gain"": {"9" * 400}}}"', "mouth_gain must be a number from 0"),
        (f"talk,{'x' * 250},me.png,a.wav,", "out has 254 bytes, and a file name at most 240"),
        (f"talk,{'ü' * 120},me.png,a.wav,", "out has 244 bytes"),
        (f"talk,x,{'p' * 5000}.png,a.wav,", r"portrait .*p… does not exist"),
        (f"talk,x,{'p/' * 5000}me.png,a.wav,", "does not exist"),
        ("talk,x,me\0.png,a.wav,", "column portrait holds a NUL"),
        ("talk,x,loop/me.png,a.wav,", "does not exist"),
    ],
)
def test_a_bad_line_fails_and_the_rest_goes_on(folder, row, told):
    (folder / "loop").symlink_to(folder / "loop")
    path, runner = manifest(folder, row, "talk,good,me.png,a.wav,", columns="job,out,portrait,speech,options"), Runner()
    result, problems = run(path, runner), list(read_manifest(path))
    assert (result.done, result.failed, runner.given) == (1, 1, ["good.mp4"])
    with pytest.raises(InputError, match=told):
        raise InputError(problems[0].problem)
    failed, done = table(folder)
    assert (failed["line"], failed["status"], failed["attempts"]) == ("2", "failed", "0")
    assert failed["reason"] == problems[0].problem
    assert list(done.values()) == ["3", "good.mp4", "talk", "done", "0.50", "1", ""]
    assert tuple(done) == COLUMNS


def test_a_quote_that_is_not_closed_is_told_where_it_takes_lines_along(folder):
    columns = "job,out,portrait,speech,note"
    rows = [
        'talk,a,me.png,a.wav,"for Anna',
        "talk,b,me.png,a.wav,",
        "",
        'talk,c,me.png,a.wav,"for Carl"',
        'talk,d,me.png,a.wav,5" wide',
    ]
    runner = Runner()
    result = run(manifest(folder, *rows, columns=columns), runner)
    assert (result.done, result.failed, runner.given) == (1, 1, ["d.mp4"])
    assert "a quote that is not closed made one of 3 lines" in table(folder)[0]["reason"]
    two_lines = manifest(folder, 'talk,a,me.png,a.wav,"for Anna', 'and Carl"', columns=columns)
    assert run(two_lines, Runner()).done == 1, "a note may have lines"


@pytest.mark.parametrize("head", ["job,out,portrait,speech,note\ntalk,x,me.png,a.wav,", ""])
@pytest.mark.parametrize("quote", ['"', ""])
def test_a_row_without_end_is_refused_with_its_line(folder, head, quote):
    path = folder / "jobs.csv"
    path.write_text(f"{head}{quote}{'n' * 200_000}\n")
    line = 1
    with pytest.raises(InputError, match=f"below line {line} .*more than 131072 characters.*quote not closed"):
        run(path, Runner())
    assert not (folder / "out").exists()


def test_a_manifest_without_end_is_refused(tmp_path):
    with pytest.raises(InputError, match="/dev/zero"):
        run_batch(Path("/dev/zero"), BatchSettings(tmp_path / "out"))


def test_an_output_folder_in_a_loop_of_links_is_told(folder):
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(OutputError, match="cannot write .*loop"):
        run_batch(talks(folder, 1), BatchSettings(folder / "loop" / "out"), make_runner=Runner)


def test_only_failures_that_are_no_mistake_are_tried_again(folder):
    again, mistake = Outcome("failed", 1, "disk\naway", again=True), Outcome("failed", 1, "no face")
    ends = {"v0.mp4": mistake, "v1.mp4": [again, again, Outcome("done")], "v2.mp4": again}
    runner = Runner(ends)
    result = run(talks(folder, 4), runner)
    assert (result.done, result.failed) == (2, 2)
    assert [runner.given.count(f"v{k}.mp4") for k in range(4)] == [1, 3, 3, 1]
    told = {row["out"]: (row["status"], row["attempts"], row["reason"]) for row in table(folder)}
    assert told["v0.mp4"] == ("failed", "1", "no face")
    assert told["v1.mp4"] == ("done", "3", "")
    assert told["v2.mp4"] == ("failed", "3", "disk away")


def test_retries_wait_twice_as_long_each_time(folder, monkeypatch):
    """By a clock that only sleep moves, so that a busy machine does not lengthen the waits."""
    times, again, now = [], Outcome("failed", 0, "x", again=True), [100.0]

    class Timed(Runner):
        def run(self, job, on_progress=None):
            times.append(now[0])
            return again

    def sleep(seconds):
        assert seconds > 0
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter, sleep=sleep)
    monkeypatch.setattr(batch_run, "time", clock)
    run(talks(folder, 1), Timed(), BatchOptions(retries=2, wait_s=0.1))
    first, second = times[1] - times[0], times[2] - times[1]
    assert first == pytest.approx(0.1, abs=1e-6)
    assert second == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit()])
def test_stopping_keeps_what_is_finished(folder, stop):
    runner = Runner({"v2.mp4": stop})
    with pytest.raises(type(stop)):
        run(talks(folder, 4), runner)
    assert [row["out"] for row in table(folder)] == ["v0.mp4", "v1.mp4"]
    assert runner.closed


def test_progress_may_stop_within_a_job(folder):
    def on_progress(done, total):
        assert total == 3
        if done == 1 and len(runner.given) == 2:
            raise RuntimeError("enough")

    runner = Runner()
    with pytest.raises(RuntimeError, match="enough"):
        run(talks(folder, 3), runner, on_progress=on_progress)
    assert [row["out"] for row in table(folder)] == ["v0.mp4"]


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_lines(folder):
    def peak(count):
        path, runner = talks(folder, count), Runner()
        runner.given = type("Forgetful", (), {"append": lambda *_: None})()
        tracemalloc.start()
        run(path, runner)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)
    # the collector's own rhythm is worth 0.1 MB; 1,900 lines held as jobs would be 2 MB and more
    assert peak(2000) < peak(100) + 300_000


def test_the_table_must_not_be_the_manifest(folder):
    (folder / "out").mkdir()
    path = talks(folder, 1).rename(folder / "out" / "batch.csv")
    with pytest.raises(InputError, match="rename it"):
        run_batch(path, BatchSettings(folder / "out"), make_runner=Runner)


def test_many_workers_without_ray_say_what_to_do(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"pip install ray.*--workers 1"):
        run(talks(folder, 1), Runner(), BatchOptions(workers=2))


@pytest.fixture
def small(monkeypatch, folder):
    """A real runner whose talk only writes a file, and counts."""
    made = []

    def talk(self, job, out, on_progress):
        made.append(job.out)
        if job.options.get("seed") == 13:
            raise OutputError("the disk is away")
        if job.options.get("seed") == 14:
            raise InputError("no face")
        out.write_text(f"video {len(made)}")

    monkeypatch.setattr(JobRunner, "_talk", talk)
    (folder / "out").mkdir()
    return made, JobRunner(BatchSettings(folder / "out"))


def statuses(folder: Path, runner: JobRunner, path: Path) -> list[str]:
    return [runner.run(job).status for job in read_manifest(path)]


def test_finished_jobs_are_skipped_until_something_changes(folder, small):
    (made, runner), path = small, talks(folder, 2)
    assert statuses(folder, runner, path) == ["done", "done"]
    assert statuses(folder, JobRunner(BatchSettings(folder / "out")), path) == ["skipped", "skipped"]
    shutil.copyfile(folder / "me.png", folder / "again.png")
    moved = manifest(folder, "talk,v0,again.png,a.wav", "talk,v1,me.png,a.wav")
    assert statuses(folder, runner, moved) == ["skipped", "skipped"], "the content counts, not the name"
    (folder / "out" / "v0.mp4").unlink()
    assert statuses(folder, runner, path) == ["done", "skipped"]
    (folder / "out" / "v1.mp4").write_text("cut")
    assert statuses(folder, runner, path) == ["skipped", "done"]
    (folder / "a.wav").write_bytes(b"other words")
    assert statuses(folder, runner, path) == ["done", "done"]
    seeded = manifest(folder, "talk,v0,me.png,a.wav,1", "talk,v1,me.png,a.wav,", columns="job,out,portrait,speech,seed")
    assert statuses(folder, runner, seeded) == ["done", "skipped"]
    assert len(made) == 7


def test_a_new_version_makes_everything_anew(folder, small, monkeypatch):
    (_, runner), path = small, talks(folder, 1)
    statuses(folder, runner, path)
    monkeypatch.setattr(batch_jobs, "VERSION", batch_jobs.VERSION + 1)
    assert statuses(folder, runner, path) == ["done"]


def test_failures_tell_whether_to_try_again_and_leave_nothing_kept(folder, small):
    rows = (f"talk,v{seed},me.png,a.wav,{seed}" for seed in (13, 14))
    path = manifest(folder, *rows, columns="job,out,portrait,speech,seed")
    ends = [small[1].run(job) for job in read_manifest(path)]
    assert [(end.status, end.reason, end.again) for end in ends] == [
        ("failed", "the disk is away", True),
        ("failed", "no face", False),
    ]
    assert not list((folder / "out").rglob("*.json"))


def test_an_output_must_not_be_an_input(folder, small):
    shutil.copyfile(folder / "a.wav", folder / "out" / "v0.mp4")
    path = manifest(folder, "talk,v0,me.png,out/v0.mp4")
    job = next(read_manifest(path))
    end = small[1].run(job)
    assert end.status == "failed"
    assert "also the speech" in end.reason
    assert (folder / "out" / "v0.mp4").read_bytes() == b"a.wav"


@pytest.mark.slow
def test_a_real_talk_and_a_real_score_of_it(tmp_path, astronaut):
    from skimage.data import astronaut as picture

    Image.fromarray(picture()).resize((256, 256)).save(tmp_path / "me.png")
    _half_a_second(tmp_path / "a.wav")
    talk = manifest(tmp_path, "talk,v,me.png,a.wav,lively,3", columns="job,out,portrait,speech,style,seed")
    settings = BatchSettings(tmp_path / "out")
    assert run_batch(talk, settings).done == 1
    with av.open(str(tmp_path / "out" / "v.mp4")) as file:
        assert sum(1 for _ in file.decode(video=0)) == 13  # ceil(0.5 · 25)
    score = manifest(
        tmp_path, "score,s,out/v.mp4,out/v.mp4", "score,alone,out/v.mp4,", columns="job,out,generated,target"
    )
    result = run_batch(score, settings)
    assert (result.done, result.failed) == (2, 0), table(tmp_path)
    told = json.loads((tmp_path / "out" / "s.json").read_text())
    assert told["values"]["ssim"] == pytest.approx(1.0)
    assert run_batch(score, settings).skipped == 2


@pytest.mark.slow
def test_face_models_tell_who_the_faces_are(tmp_path, write_video):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx_models import paint_disc, write_face_models

    face = paint_disc((320, 240, 220)).numpy()  # what those models take for a face
    write_video([face] * 4, "made.mp4")
    Image.fromarray(face).save(tmp_path / "me.png")
    columns = "job,out,generated,target,portrait"
    path = manifest(tmp_path, "score,s,made.mp4,made.mp4,me.png", "score,alone,made.mp4,,me.png", columns=columns)
    told = {}
    for models in (None, write_face_models(tmp_path / "insightface")):
        settings = BatchSettings(tmp_path / "out", face_models=models)
        result = run_batch(path, settings)
        assert (result.done, result.failed) == (2, 0), table(tmp_path)
        told[models is not None] = [json.loads((tmp_path / "out" / f"{n}.json").read_text()) for n in ("s", "alone")]
    for row in told[False]:  # the mesh sees no face in it
        assert row["missing"]["identity"] == "not available: needs the portrait"
        assert any("me.png shows no face" in note for note in row["notes"])
    for row in told[True]:
        assert row["values"]["identity"] == pytest.approx(1, abs=1e-3)
        assert row["counts"]["face_encoder"].startswith("ArcFace")
    assert told[True][0]["values"]["identity_to_target"] == pytest.approx(1, abs=1e-6)


def _half_a_second(path: Path) -> None:
    import wave

    sample = Path(__file__).parents[3] / "samples" / "speech.wav"
    with wave.open(str(sample)) as whole, wave.open(str(path), "wb") as part:
        part.setparams(whole.getparams())
        whole.readframes(8000)
        part.writeframes(whole.readframes(8000))


def test_no_cluster_at_an_address_is_told_at_once(monkeypatch):
    monkeypatch.setattr(batch_cluster.importlib.util, "find_spec", lambda name: name)  # Ray's client
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for form in (address, f"ray://{address}"):
            with pytest.raises(InputError, match=f"nobody answers at {form} .*ray start"):
                batch_cluster.check_address(form)
    batch_cluster.check_address("auto")


def test_an_address_that_needs_rays_client_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(batch_cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"ray://head:10001 needs Ray's client: pip install 'ray\[client\]'"):
        batch_cluster.check_address("ray://head:10001")


def test_a_local_ray_gets_a_token_of_its_own_and_leaves_the_environment_as_it_was(monkeypatch):
    """Otherwise Ray writes ~/.ray/auth_token, and the next cluster of the user takes nobody in."""
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    tokens = []

    class Ray:
        def init(self, **_settings):
            tokens.append(os.environ.get("RAY_AUTH_TOKEN"))
            os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does

    for address in (None, None, "auto"):
        batch_cluster.connect(Ray(), 2, address)
        os.environ.pop("RAY_AUTH_MODE", None) if address else None
        assert not [name for name in names if name in os.environ]
    assert len(tokens[0]) == 64 and tokens[0] == tokens[1]  # Ray keeps the first one that it read
    assert tokens[2] is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    batch_cluster.connect(Ray(), 2, None)
    assert (tokens[-1], os.environ["RAY_AUTH_TOKEN"]) == ("mine", "mine")


@pytest.mark.parametrize(("address", "told"), [(None, "--workers 1"), ("auto", "at auto .*ray start")])
def test_a_ray_that_does_not_start_is_told_and_cleared_away(address, told):
    class Ray:
        stopped = False

        def init(self, **_settings):
            raise Exception("The current node\ntimed out")  # as Ray does

        def shutdown(self):
            self.stopped = True

    ray = Ray()
    with pytest.raises(InputError, match=told):
        batch_cluster.connect(ray, 2, address)
    assert ray.stopped


@pytest.mark.parametrize(
    ("address", "message", "cause"),
    [
        ("head:6379", "Failed to connect", "Unauthenticated: InvalidAuthToken: Authentication token is missing"),
        ("ray://head:10001", "ray client connection timeout", ""),
    ],
)
def test_a_cluster_that_asks_for_a_token_is_told_apart(monkeypatch, address, message, cause):
    """Both as Ray 2.60 says it where a token is set on the cluster and RAY_AUTH_MODE is not set here."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)

    class Ray:
        def init(self, **_settings):
            raise ConnectionError(message) from (RuntimeError(cause) if cause else None)

        def shutdown(self):
            pass

    with pytest.raises(InputError, match=rf"{address} \({message}\); .*RAY_AUTH_MODE=token.*auth_token"):
        batch_cluster.connect(Ray(), None, address)


def test_the_table_holds_no_formula_that_a_spreadsheet_would_run(folder):
    path = manifest(folder, "talk,=A1,me.png,a.wav")
    run(path, Runner({"=A1.mp4": Outcome("failed", 1, "+1+1")}))
    (line,) = table(folder)
    assert (line["out"], line["reason"]) == ("'=A1.mp4", "'+1+1")
