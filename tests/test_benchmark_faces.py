"""The benchmark of face distances counts its pairs as they are."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.faces import Face, clips, mistaken, table  # noqa: E402
from portraittalk_core.face.canonical import canonical_face  # noqa: E402


def test_pairs_are_sorted_by_person_and_film(tmp_path):
    """Three faces of Ann in two films, one of Bob who is like her: distances 0.3, 0.7, 0.4 and 0.5 (3-4-5)."""
    none = torch.zeros(150, 150, 3, dtype=torch.uint8)
    places = {("a", "ann"): [(0.0, 0.0), (0.3, 0.0)], ("b", "ann"): [(0.0, 0.7)], ("c", "bob"): [(0.3, 0.4)]}
    faces = [
        Face(clip, person, none, torch.tensor(place)) for (clip, person), found in places.items() for place in found
    ]
    one_film, two_films, two_people = (line.split(" | ") for line in table(faces))
    assert one_film[:3] == ["| one person, one film", "1", "0.300"] and one_film[5] == "0 (0.0%)"
    assert two_films[1:3] == ["2", "0.700"] and two_films[5] == "2 (100.0%)"
    assert two_people[1:5] == ["3", "0.400", "0.424", "0.500"] and two_people[5] == "3 (100.0%)"
    (tmp_path / "m.csv").write_text("file,speaker\nx/a.mp4,ann\nb.wav,ann\n", encoding="utf-8")
    assert list(clips(tmp_path / "m.csv")) == [(tmp_path / "x" / "a.mp4", "ann")]


def test_scenes_are_mistaken_by_shape_and_by_descriptor():
    """Ann twice, once with a wider face; Bob with Ann's shape and a descriptor 0.5 away, Cy with neither."""
    ann = canonical_face()[None] * 100 + 500
    wide, long = ann * torch.tensor([1.3, 1.0, 1.0]), ann * torch.tensor([1.0, 1.4, 1.0])
    at = [torch.tensor([place, 0.0]) for place in (0.0, 0.1, 0.5, 5.0)]
    told = mistaken([("ann", ann, at[0]), ("ann", wide, at[1]), ("bob", ann + 9, at[2]), ("cy", long, at[3])])
    assert told == (
        "films as scenes, by shape: 1 of 1 of one person and 1 of 5 of two people are mistaken\n"
        "films as scenes, by descriptor: 0 of 1 of one person and 2 of 5 of two people are mistaken"
    )
