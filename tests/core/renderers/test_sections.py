"""A job that was stopped goes on from its finished sections, and comes out as if it never had been."""

import errno
import logging
import os
import time
from fractions import Fraction

import pytest
import torch
from control_files import tiny_controlnet
from sd15_files import make_checkpoint
from tiny_unet import random_motion

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.denoiser import Condition
from portraittalk_core.diffusion.samplers import SamplerOptions
from portraittalk_core.diffusion.windowed import VideoOptions
from portraittalk_core.errors import InputError, OutputError
from portraittalk_core.renderers.animatenet.control import ControlOptions, FrameControl
from portraittalk_core.renderers.contract import Callbacks
from portraittalk_core.renderers.identitynet.painter import Animation, DiffusersPainter, Painted, PaintOptions
from portraittalk_core.renderers.repaint import paint_latents, repainted
from portraittalk_core.renderers.sections import Section, Sections, prune

KEY = "0123456789abcdef"
SIZE = 64


class Chained:
    """Paints a frame from what is given and from all finished frames before it: one missing, and the rest differs."""

    steps = 2

    def __init__(self, batch=4, overlap=1, full_at=None, stop_at=None):
        self.batch, self.overlap, self.full_at, self.stop_at = batch, overlap, full_at, stop_at
        self.painted = []

    def paint_latents(self, latents, on_step, first, fixed):
        if first == self.stop_at:
            raise KeyboardInterrupt
        assert (fixed is not None) == (first > 0 and self.overlap > 0)
        if first == self.full_at:  # as ComfyPainter does where memory is full
            self.batch = max(1, len(latents) // 2)
        self.painted.append((first, len(latents)))
        carried = torch.zeros(4, 8, 8) if fixed is None else fixed.mean(0)
        made = []
        for number, latent in enumerate(latents, first):
            carried = torch.sin(3 * carried + latent + number)
            made.append(carried)
        made = torch.stack(made) + (0 if self.overlap else self.batch / 100)  # as noise that goes by the batch
        shade = made.mean((1, 2, 3)).reshape(-1, 1, 1, 1).sigmoid()
        return Painted(shade.expand(-1, SIZE, SIZE, 3), made)

    def paint(self, frames, on_step, first, fixed):
        grey = frames.mean(-1)[:, None, :8, :8]
        return self.paint_latents(grey.expand(-1, 4, -1, -1), on_step, first, fixed)


@pytest.fixture
def latents():
    return torch.randn(14, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def job(tmp_path, latents):
    """Paints all of it with a painter: pictures and latents."""

    def run(painter, sections=None, **told):
        pictures, made = [], []
        callbacks = Callbacks(told.get("on_progress"), pictures.append, made.append, sections)
        paint_latents(latents, painter, tmp_path / "a.mp4", Fraction(10), callbacks=callbacks)
        return torch.stack(pictures), torch.cat(made)

    return run


@pytest.fixture
def store(tmp_path):
    return lambda key=KEY: Sections(tmp_path / "unfinished", key)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("overlap", "begun"), [(0, [8, 12]), (1, [7, 10])])
def test_a_stopped_job_goes_on_and_comes_out_the_same(job, store, overlap, begun):
    """Chunks with an overlap of 1 begin at 0, 4, 7, 10 and 13; batches without at 0, 4, 8 and 12."""
    whole = job(Chained(overlap=overlap))
    with pytest.raises(KeyboardInterrupt):
        job(Chained(overlap=overlap, stop_at=begun[0]), store())
    painter, sections = Chained(overlap=overlap), store()
    assert same(job(painter, sections), whole)
    assert [first for first, _ in painter.painted][:2] == begun
    total = 4 if overlap == 0 else 5
    assert sections.summary == f"resumed: 2 of {total} sections were finished already"
    assert not sections.folder.exists()


def test_pictures_that_are_drawn_go_on_at_the_right_one(store):
    def drawn():
        return (torch.full((SIZE, SIZE, 3), 10 * i, dtype=torch.uint8) for i in range(14))

    whole = torch.stack(list(repainted(drawn(), 14, Chained(), Callbacks())))
    with pytest.raises(KeyboardInterrupt):
        list(repainted(drawn(), 14, Chained(stop_at=7), Callbacks(sections=store())))
    painter = Chained()
    assert torch.equal(torch.stack(list(repainted(drawn(), 14, painter, Callbacks(sections=store())))), whole)
    assert painter.painted[0][0] == 7


def test_a_job_that_is_never_stopped_leaves_nothing_and_tells_nothing(job, store):
    sections = store()
    assert same(job(Chained(), sections), job(Chained()))
    assert sections.summary == "" and not sections.folder.exists()


def test_sections_stay_until_the_video_is_whole(job, store, monkeypatch):
    monkeypatch.setattr("portraittalk_core.media.video_write.VideoWriter._check_complete", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        job(Chained(), store())
    monkeypatch.undo()
    painter = Chained()
    job(painter, store())
    assert painter.painted == []


def test_another_key_paints_anew(job, store):
    with pytest.raises(KeyboardInterrupt):
        job(Chained(stop_at=7), store())
    painter = Chained()
    job(painter, store("another_job"))
    assert painter.painted[0][0] == 0
    assert store().folder.exists()


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def zeroed(path):
    """As after a power failure: of the right length, but never written to its end."""
    content = path.read_bytes()
    path.write_bytes(content[:-5000] + bytes(5000))


def of_another_place(path):
    path.write_bytes(path.with_name("00000000.safetensors").read_bytes())


def of_another_length(path):
    one = Section(4, torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8), torch.zeros(2, 4, 8, 8), 4)
    Sections(path.parent.parent, KEY).save(one)


@pytest.mark.parametrize("damage", [cut, empty, zeroed, of_another_place, of_another_length])
def test_a_damaged_section_is_painted_again(job, store, damage, caplog):
    whole = job(Chained())
    with pytest.raises(KeyboardInterrupt):
        job(Chained(stop_at=10), store())
    damage(store().folder / "00000004.safetensors")
    painter = Chained()
    with caplog.at_level(logging.WARNING):
        assert same(job(painter, store()), whole)
    assert [first for first, _ in painter.painted] == [4, 10, 13]  # the others are still read
    assert "00000004.safetensors is not used" in caplog.text


@pytest.mark.parametrize("manifest", ['{"layout": "0", "key": "0123456789abcdef"}', "[1]", "{", None])
def test_a_store_of_another_layout_is_not_read(job, store, manifest):
    with pytest.raises(KeyboardInterrupt):
        job(Chained(stop_at=7), store())
    path = store().folder / "manifest.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    painter = Chained()
    with pytest.raises(KeyboardInterrupt):
        job(Chained(stop_at=4), store())
    assert sorted(os.listdir(store().folder)) == ["00000000.safetensors", "manifest.json"]
    job(painter, store())
    assert painter.painted[0][0] == 4


def test_a_batch_that_was_halved_stays_halved(job, store):
    whole = job(Chained(overlap=0, full_at=4))
    with pytest.raises(KeyboardInterrupt):
        job(Chained(overlap=0, full_at=4, stop_at=10), store())
    painter = Chained(overlap=0)
    assert same(job(painter, store()), whole)
    assert painter.painted == [(10, 2), (12, 2)]


def test_longer_and_shorter_runs_of_frames_are_taken_where_they_follow_each_other(job, store):
    with pytest.raises(KeyboardInterrupt):
        job(Chained(overlap=0, batch=3, stop_at=6), store())
    painter, sections = Chained(overlap=0, batch=5), store()
    job(painter, sections)
    assert painter.painted == [(6, 3), (9, 3), (12, 2)]
    assert sections.num_found == 2


def test_interrupted_while_writing_leaves_whole_sections_only(job, store, monkeypatch):
    whole, replace, calls = job(Chained()), os.replace, []

    def stopped(part, path):
        calls.append(path)
        if str(path).endswith("00000007.safetensors"):
            raise KeyboardInterrupt
        replace(part, path)

    monkeypatch.setattr("os.replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        job(Chained(), store())
    monkeypatch.undo()
    assert sorted(os.listdir(store().folder)) == ["00000000.safetensors", "00000004.safetensors", "manifest.json"]
    painter = Chained()
    assert same(job(painter, store()), whole) and painter.painted[0][0] == 7


def test_what_a_killed_writer_left_does_not_stay(job, store):
    with pytest.raises(KeyboardInterrupt):
        job(Chained(stop_at=7), store())
    (store().folder / ".00000007.1234abcd.part.safetensors").write_bytes(b"half")
    job(Chained(), store())
    assert not store().folder.exists()


def test_interrupt_by_progress_goes_on_too(job, store):
    def stop(done, total):
        if done >= 14:
            raise KeyboardInterrupt

    whole = job(Chained())
    with pytest.raises(KeyboardInterrupt):
        job(Chained(), store(), on_progress=stop)
    painter, seen = Chained(), []
    assert same(job(painter, store(), on_progress=lambda done, _: seen.append(done)), whole)
    assert len(painter.painted) == 3 and seen == sorted(seen) and seen[-1] == 28


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_latents_come_back_bit_for_bit(store, dtype):
    latents = torch.randn(3, 4, 8, 8).to(dtype)
    pictures = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    store().save(Section(5, pictures, latents, 4))
    found = store().find(5, 3)
    assert torch.equal(found.latents, latents) and found.latents.dtype == dtype
    assert torch.equal(found.pictures, pictures) and (found.first, found.batch) == (5, 4)
    assert store().find(4, 3) is None and store().find(5, 2) is None and store().find(5, 4, exactly=True) is None


def test_a_full_disk_is_told_with_what_is_free_and_where(job, store, tmp_path, monkeypatch):
    write = type(tmp_path).write_bytes

    def full(path, content):
        if "00000007" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(OutputError, match=r"disk is full \([\d.]+ MB are free in .*unfinished.*\); free some space"):
        job(Chained(), store())
    assert sorted(os.listdir(store().folder)) == ["00000000.safetensors", "00000004.safetensors", "manifest.json"]
    assert not (tmp_path / "a.mp4").exists() and os.listdir(tmp_path) == ["unfinished"]


def test_old_and_large_stores_are_removed_but_nothing_else(tmp_path):
    pictures = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)

    def make(key, days):
        one = Sections(tmp_path, key)
        one.save(Section(0, pictures, None, 1))
        for file in one.folder.iterdir():
            os.utime(file, (time.time() - days * 86400,) * 2)

    for key, days in (("mine_is_old", 30), ("old_as_well", 8), ("of_today", 0), ("yesterday", 1), ("days_ago", 2)):
        make(key, days)
    (tmp_path / "not_ours").mkdir()
    (tmp_path / "not_ours" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "not_ours" / "manifest.json").write_text("{}")
    prune(tmp_path, keep="mine_is_old")
    assert sorted(os.listdir(tmp_path)) == ["days_ago", "mine_is_old", "not_ours", "of_today", "yesterday"]
    one = sum(file.stat().st_size for file in (tmp_path / "of_today").iterdir())
    prune(tmp_path, most_bytes=int(2.5 * one))
    assert sorted(os.listdir(tmp_path)) == ["not_ours", "of_today", "yesterday"]
    prune(tmp_path / "absent")


@pytest.mark.slow
def test_sd15_with_a_controlnet_and_a_motion_module_goes_on_bit_for_bit(store, tmp_path):
    """The whole denoiser, tiny: chunks of 8 frames with an overlap of 2 begin at 0, 6 and 12."""
    pytest.importorskip("diffusers")

    def hints(frames, height, width):
        return torch.stack([torch.full((3, height, width), 0.02 * frame) for frame in frames])

    def video(sections=None, stop_at=None):
        control = FrameControl(tiny_controlnet(), hints, ControlOptions(1.0))
        options = PaintOptions(SamplerOptions(steps=2, denoise=0.8, seed=1), video=VideoOptions("chunked", 8, 2))
        cond = Condition(torch.full((1, 7, 48), 0.1))
        painter = DiffusersPainter(load_sd15(file), cond, {}, options, Animation(control, random_motion()))
        sample, begun, latents = painter._sampled, [], []

        def counted(given, on_step, first, fixed):
            if first == stop_at:
                raise KeyboardInterrupt
            begun.append(first)
            return sample(given, on_step, first, fixed)

        painter._sampled = counted
        pictures = (torch.full((SIZE, SIZE, 3), 100 + i, dtype=torch.uint8) for i in range(20))
        callbacks = Callbacks(on_latents=latents.append, sections=sections)
        return torch.stack(list(repainted(pictures, 20, painter, callbacks))), torch.cat(latents), begun

    file = make_checkpoint(tmp_path / "tiny.safetensors", text=False)
    with pytest.raises(KeyboardInterrupt):
        video(store(), stop_at=12)
    *resumed, begun = video(store())
    *whole, all_begun = video()
    assert (begun, all_begun) == ([12], [0, 6, 12])
    assert same(resumed, whole) and whole[0].float().std() > 1


@pytest.mark.parametrize("key", ["", "../../x12345", "short", "a" * 200])
def test_keys_that_are_no_names_are_refused(tmp_path, key):
    with pytest.raises(InputError, match="a job's key"):
        Sections(tmp_path, key)
