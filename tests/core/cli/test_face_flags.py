"""Whether a face was named: a number that is given, 0 too, a box or a mask; how faces are counted names none."""

import argparse

import pytest

from portraittalk_core.cli.arguments import add_face, chosen_face, named_face
from portraittalk_core.face.choice import BoxChoice
from portraittalk_core.face.options import FaceOptions, named_in


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], None),
        (["--face-order", "left_to_right"], None),
        (["--face-index", "0"], 0),
        (["--face-index", "2"], 2),
        (["--face", "1,2,30,40"], BoxChoice((1.0, 2.0, 30.0, 40.0))),
    ],
)
def test_a_face_is_named_by_the_flags_that_are_given(flags, named):
    parser = argparse.ArgumentParser()
    add_face(parser)
    args = parser.parse_args(flags)
    assert named_face(args) == named
    assert chosen_face(args) == (0 if named is None else named)
    assert args.face_order == ("left_to_right" if "--face-order" in flags else FaceOptions.face_order)


def test_a_manifests_columns_name_a_face():
    assert named_in({}) is None and named_in({"face_order": "size"}) is None
    assert named_in({"face_index": 0}) == 0
    assert named_in({"face_index": 3, "face": "1,2,30,40"}) == BoxChoice((1.0, 2.0, 30.0, 40.0))
