import pytest

from portraittalk_core.cli.main import main


@pytest.mark.parametrize("what", ["keypoints", "sync", "audio2exp", "landmarks", "lips"])
def test_train_needs_settings_that_can_be_read(what, tmp_path, capsys):
    assert main(["train", what]) == 2
    assert f"train {what} needs --config" in capsys.readouterr().err
    path = tmp_path / "settings.toml"
    path.write_text('data = "clips"\nfolder = "run"\n')
    assert main(["train", what, "--config", str(path)]) == 2
    assert "unknown names: folder" in capsys.readouterr().err


def test_train_tells_of_clips_that_are_not_there(tmp_path, capsys):
    path = tmp_path / "sync.toml"
    path.write_text(f'data = "{tmp_path.as_posix()}/none"\nout = "run"\nsize = "tiny"\n')
    assert main(["train", "sync", "--config", str(path)]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_prepare_looks_at_hubert_before_the_long_work(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    where = ["--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "clips")]
    assert main(["prepare", *where, "--hubert", str(tmp_path / "none.safetensors")]) != 0
    assert "none.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "clips").exists()
