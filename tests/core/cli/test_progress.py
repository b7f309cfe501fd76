from __future__ import annotations

from portraittalk_core.cli.progress import plain_progress, progress_bar


def test_plain_progress_says_the_time_left_every_five_seconds(capsys):
    seconds = iter([0.0, 1.0, 5.0, 6.0, 10.0])
    on_progress = plain_progress("rendering", clock=lambda: next(seconds))
    for done in (10, 50, 60, 100):
        on_progress(done, 400)
    assert capsys.readouterr().err.splitlines() == [
        "rendering: 12 %, 35 s left",
        "rendering: 25 %, 30 s left",
    ]


def test_the_time_left_never_rises_while_a_step_lasts(capsys):
    seconds = iter([0.0, 0.0, 10.0, 16.0, 22.0, 60.0])
    on_progress = plain_progress("preparing", clock=lambda: next(seconds))
    for done in (0, 1, 1, 1, 1):
        on_progress(done, 3)
    assert capsys.readouterr().err.splitlines() == [
        "preparing: 33 %, 20 s left",
        "preparing: 33 %, 14 s left",
        "preparing: 33 %, 10 s left",
        "preparing: 33 %, 10 s left",
    ]


def test_the_time_left_does_not_count_what_was_done_before(capsys):
    seconds = iter([0.0, 0.0, 6.0, 12.0])
    on_progress = plain_progress("preparing", clock=lambda: next(seconds))
    for done in (90, 90, 92):
        on_progress(done, 100)
    assert capsys.readouterr().err.splitlines() == ["preparing: 90 %", "preparing: 92 %, 48 s left"]


def test_plain_progress_bears_an_unknown_total(capsys):
    seconds = iter([0.0, 9.0])
    plain_progress("rendering", clock=lambda: next(seconds))(3, 0)
    assert capsys.readouterr().err == ""


def test_progress_bar_on_a_terminal_is_drawn_on_stderr(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress_bar("rendering") as on_progress:
        on_progress(3, 7)
        on_progress(7, 7)
    captured = capsys.readouterr()
    assert "100%" in captured.err and not captured.out
