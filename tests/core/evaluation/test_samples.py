import pytest

from portraittalk_core.errors import InputError
from portraittalk_core.evaluation.samples import samples_of_csv, samples_of_paths


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def test_folders_are_matched_by_stem_and_the_rest_is_told(tmp_path):
    made = touch(tmp_path / "made", "a.mp4", "b.mov", "c.mp4", "d.mp4", "d.mkv", "notes.txt", ".hidden.mp4")
    true = touch(tmp_path / "true", "a.mkv", "b.mp4", "d.mp4", "e.mp4")
    items = {item.name: item for item in samples_of_paths(made, true)}
    assert list(items) == ["a", "b", "c", "d", "e"]
    assert (items["a"].generated.name, items["a"].target.name, items["a"].problem) == ("a.mp4", "a.mkv", None)
    assert "no target video named c" in items["c"].problem
    assert "several generated videos are named d" in items["d"].problem
    assert "no generated video named e" in items["e"].problem


def test_folders_that_cannot_be_matched_are_refused(tmp_path):
    made, true, empty = touch(tmp_path / "m", "a.mp4"), touch(tmp_path / "t", "b.mp4"), touch(tmp_path / "e")
    with pytest.raises(InputError, match="matched by their names"):
        samples_of_paths(made, true)
    with pytest.raises(InputError, match="holds no video"):
        samples_of_paths(empty, true)
    with pytest.raises(InputError, match="does not exist"):
        samples_of_paths(made, tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a folder, .* is a file"):
        samples_of_paths(made, true / "b.mp4")


def test_csv_names_pairs_beside_it_and_missing_files(tmp_path):
    touch(tmp_path / "v", "a.mp4", "b.mp4")
    table = tmp_path / "pairs.csv"
    table.write_text("Generated; target;name\nv/a.mp4;v/b.mp4;first\n\nv/a.mp4;v/gone.mp4;\n;v/b.mp4;\n", "utf-8-sig")
    first, gone, empty = samples_of_csv(table)
    assert (first.name, first.generated, first.problem) == ("first", tmp_path / "v" / "a.mp4", None)
    assert "gone.mp4 does not exist" in gone.problem
    assert "names no generated video" in empty.problem


def test_csv_lines_of_one_name_are_told_apart(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    table = tmp_path / "pairs.csv"
    table.write_text("generated,target\na.mp4,b.mp4\na.mp4,a.mp4\n")
    assert [item.name for item in samples_of_csv(table)] == ["a.mp4 (1)", "a.mp4 (2)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("made,real\na,b\n", "lacks the columns generated and target"),
        ("generated,target\n", "no pair"),
    ],
)
def test_csv_without_its_columns_or_lines_is_refused(tmp_path, text, said):
    table = tmp_path / "pairs.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=said):
        samples_of_csv(table)


def test_csv_of_videos_alone_needs_no_target(tmp_path):
    touch(tmp_path, "a.mp4")
    table = tmp_path / "videos.csv"
    table.write_text("generated\na.mp4\n")
    (item,) = samples_of_csv(table, reference_free=True)
    assert (item.target, item.problem) == (None, None)
