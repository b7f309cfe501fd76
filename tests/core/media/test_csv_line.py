import csv
import math

import pytest

from portraittalk_core.media.csv_line import csv_line


def read(line: str) -> list[str]:
    (cells,) = csv.reader([line])
    return cells


@pytest.mark.parametrize(
    "text",
    ['=HYPERLINK("http://evil";"x").mp4', "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "＝1+1", "-", "--out"],
)
def test_text_that_begins_a_formula_gets_an_apostrophe(text):
    assert read(csv_line([text, "next"])) == [f"'{text}", "next"]


@pytest.mark.parametrize("text", ["a=b.mp4", "née - 1", "", "−3", " x", "'=1", "5", "clip, “two”"])
def test_other_text_stays_as_it_is(text):
    assert read(csv_line([text, "next"])) == [text, "next"]


def test_numbers_keep_their_sign():
    line = csv_line([-1, -0.5, "-inf", "+2.5e-3", None, True, math.inf])
    assert line == "-1,-0.5,-inf,+2.5e-3,,True,inf\n"


def test_line_breaks_within_a_cell_are_kept():
    assert list(csv.reader([csv_line(["a\nb", 1])], strict=True)) == [["a\nb", "1"]]
    assert csv_line(["\n=1"]) == '"\'\n=1"\n'
