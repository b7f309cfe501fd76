from pathlib import Path

from portraittalk_core.cli.main import main
from portraittalk_core.training.lips import stage
from portraittalk_core.training.lips.score import LipScore
from portraittalk_core.training.loop.trainer import TrainingResult


def test_training_tells_what_it_reached_and_where_it_is(tmp_path, monkeypatch, capsys):
    settings = tmp_path / "lips.toml"
    settings.write_text('data = "clips"\nout = "run"\npixels = true\nheld_out = "held_out.txt"\n')
    seen = []

    def train_lips(config, on_progress):
        seen.append(config)
        on_progress(1, 2)
        training = TrainingResult(2, 0, {}, Path("c"), Path("l"), (), "0")
        return stage.LipResult(
            tmp_path / "run" / "lips.safetensors", training, LipScore(30.123, 24, 20.5), (("a", "b"),)
        )

    monkeypatch.setattr(stage, "train_lips", train_lips)
    assert main(["train", "lips", "--config", str(settings)]) == 0
    assert (seen[0].data, seen[0].out) == (tmp_path / "clips", tmp_path / "run")
    told = " ".join(capsys.readouterr().out.split())
    assert "left out a: b" in told
    assert "Of clips held out, the hidden half is painted with 30.12 dB, the mouth with 24.00 dB;" in told
    assert "the references' mean in its place has 20.50 dB." in told
    assert f"The lip renderer, after 2 steps, is in {tmp_path / 'run' / 'lips.safetensors'}" in told
