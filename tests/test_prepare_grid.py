import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from prepare_grid import split  # noqa: E402


def test_grid_split_keeps_every_fifth_clip_and_all_other_speakers_back():
    names = [f"s1/{number:02d}.mpg" for number in range(10)] + ["s30/a.mpg", "s4/a.mpg", "s4/b.mpg"]
    train, held_out = split(names[::-1], ["s1", "s4"])
    assert held_out == ["s1/04.mpg", "s1/09.mpg", "s30/a.mpg"]
    assert sorted(train + held_out) == sorted(names) and not set(train) & set(held_out)
    assert train == [*(f"s1/{n:02d}.mpg" for n in range(10) if n not in (4, 9)), "s4/a.mpg", "s4/b.mpg"]
