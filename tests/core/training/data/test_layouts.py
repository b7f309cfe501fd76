import pytest

from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError
from portraittalk_core.training.data import prepare
from portraittalk_core.training.data.layouts import ANY, LAYOUTS, sound_of, split_lists, video_names
from portraittalk_core.training.data.options import LAYOUTS as CHOICES
from portraittalk_core.training.data.options import PrepareOptions

FILES = {
    "lrs2": ["mvlrs_v1/main/5535415699068794046/00001.mp4", "mvlrs_v1/pretrain/6317012335718834246/00022.mp4"],
    "lrw": ["ABOUT/test/ABOUT_00001.mp4", "ABOUT/train/ABOUT_00021.mp4", "lipread_mp4/YOUNG/val/YOUNG_00003.mp4"],
    "hdtf": ["RD_Radio10_000.mp4", "clips/WDA_AdamSchiff_001.mp4", "WRA_JohnBoozman_0.mp4"],
    "mead": ["M003/video/front/angry/level_1/001.mp4", "MEAD/W009/video/front/neutral/level_1/040.mp4"],
}
OTHERS = ["notes.mp4", "M003/video/left_30/angry/level_1/001.mp4", "main/5535415699068794046/cut/a.mp4", "x/ABOUT.mp4"]


def touch(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_choices_are_the_layouts_there_are():
    assert (ANY, *LAYOUTS) == CHOICES


@pytest.mark.parametrize("layout", list(FILES))
def test_corpus_gives_its_own_videos_alone(layout, tmp_path):
    touch(tmp_path, [*FILES[layout], *OTHERS])
    assert video_names(tmp_path, tmp_path / "out", layout) == sorted(FILES[layout])
    assert video_names(tmp_path, tmp_path / "out") == sorted([*FILES[layout], *OTHERS])


def test_folder_without_the_corpus_is_refused_with_its_shape(tmp_path):
    touch(tmp_path, FILES["hdtf"])
    with pytest.raises(InputError, match=r"holds 3 videos, but none where LRW has them \(WORD/train/WORD_00001\.mp4\)"):
        video_names(tmp_path, tmp_path / "out", "lrw")


def test_lrw_holds_its_own_test_and_validation_parts_out(tmp_path):
    train, held_out = split_lists(tmp_path, FILES["lrw"], "lrw")
    assert train == ["ABOUT/train/ABOUT_00021.mp4"]
    assert held_out == ["ABOUT/test/ABOUT_00001.mp4", "lipread_mp4/YOUNG/val/YOUNG_00003.mp4"]


def test_lrs2_holds_out_what_its_lists_name(tmp_path):
    names = [f"mvlrs_v1/main/{who}/0000{n}.mp4" for who in ("11", "22") for n in (1, 2)]
    names.append("mvlrs_v1/pretrain/11/00002.mp4")
    assert split_lists(tmp_path, names, "lrs2") == (names, [])
    (tmp_path / "mvlrs_v1").mkdir()
    (tmp_path / "mvlrs_v1" / "test.txt").write_text("11/00001 NF\n\n22/00002 MV\n")
    (tmp_path / "val.txt").write_text("22/00001\n")
    train, held_out = split_lists(tmp_path, names, "lrs2")
    assert train == [names[1], names[4]]
    assert held_out == [names[0], names[2], names[3]]


@pytest.mark.parametrize(("layout", "name"), [("hdtf", "RD_P{:02d}_{}.mp4"),
                                              ("mead", "M{:03d}/video/front/sad/level_2/00{}.mp4")])  # fmt: skip
def test_every_tenth_speaker_is_held_out_where_there_is_no_split(layout, name, tmp_path):
    names = [name.format(who, clip) for who in range(20) for clip in (1, 2)]
    train, held_out = split_lists(tmp_path, names, layout)
    assert held_out == [name.format(who, clip) for who in (9, 19) for clip in (1, 2)]
    assert len(train) + len(held_out) == 40


def test_mead_has_its_sound_beside_the_video(tmp_path):
    touch(tmp_path, ["M003/audio/angry/level_1/001.m4a"])
    video = "M003/video/front/angry/level_1/001.mp4"
    assert sound_of(tmp_path, video, "mead") == tmp_path / "M003/audio/angry/level_1/001.m4a"
    assert sound_of(tmp_path, video.replace("001", "002"), "mead") is None
    assert sound_of(tmp_path, video, ANY) is None


def test_marks_of_clips_without_a_layout_are_what_they_were(tmp_path, monkeypatch):
    """A folder that was prepared before there were layouts is not made again."""
    touch(tmp_path, ["a.mp4"])
    seen = []
    monkeypatch.setattr(prepare, "cache_key", lambda settings: seen.append(dict(settings)) or "")
    prepare._mark(tmp_path, "a.mp4", PrepareOptions())
    prepare._mark(tmp_path, "a.mp4", PrepareOptions(layout="lrw"))
    assert "layout" not in seen[0] and seen[1]["layout"] == "lrw"


def test_shortest_clip_and_layout_are_flags(tmp_path, capsys):
    touch(tmp_path, ["a.mp4"])
    words = ["prepare", "--videos", str(tmp_path), "--out", str(tmp_path / "out"), "--min-seconds", "1"]
    assert main([*words, "--layout", "lrw"]) == 2
    assert "none where LRW has them" in capsys.readouterr().err
    assert main([*words[:-1], "-1"]) == 2
    assert "--min-seconds" in capsys.readouterr().err


@pytest.mark.parametrize(("people", "held"), [(1, 0), (2, 1), (9, 1), (10, 1)])
def test_of_few_speakers_the_last_is_held_out(people, held, tmp_path):
    names = [f"RD_Person{who}_{clip:03d}.mp4" for who in range(people) for clip in (0, 1)]
    train, held_out = split_lists(tmp_path, names, "hdtf")
    assert held_out == (names[-2:] if held else []) and train == names[: len(names) - 2 * held]
