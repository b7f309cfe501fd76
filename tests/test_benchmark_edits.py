"""The edits' measures tell known changes of drawings, and the smallest run goes through."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.edits import EDITS, Plan, Portrait, colours_of, edits, openings_of, other, regions, shares  # noqa: E402
from benchmarks.edits_toy import WORDS, WordTexts, caption_of, new_person  # noqa: E402

FIRST = {name: pair[0] for name, pair in WORDS.items()}


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    moves = torch.tensor([[0.02, -0.03, 0.05, 0.2], [-0.04, 0.01, -0.08, 0.85]])
    return Portrait(new_person(1), FIRST, moves, torch.zeros(0))


@pytest.mark.parametrize("name", WORDS)
def test_half_of_one_true_change_is_a_half_of_that_one(portrait, name):
    before = portrait.drawn()
    halfway = torch.lerp(before, portrait.drawn({name: other(portrait, name)}), 0.5)
    measured = shares(halfway, portrait)
    assert measured.pop(name) == pytest.approx(0.5, abs=1e-3)
    assert all(abs(share) < 1e-3 for share in measured.values())


def test_openings_are_those_drawn_whatever_the_words(portrait):
    words = {"style": "painting", "expression": "smiling"}
    assert openings_of(portrait.drawn(words), portrait, words).tolist() == pytest.approx([0.2, 0.85], abs=0.051)


def test_colours_tell_people_apart_and_no_words(portrait):
    places = regions(portrait)
    own = colours_of(portrait.drawn(), places)
    for changes in ({"age": "old"}, {"expression": "smiling"}, {"background": "beach"}):
        torch.testing.assert_close(colours_of(portrait.drawn(changes), places), own, atol=0.02, rtol=0)
    stranger = colours_of(portrait.drawn(person=new_person(2)), places)
    assert (stranger - own).norm() > 0.2


def test_every_caption_has_tokens_of_its_own_and_one_without_words_has_others():
    captions = [caption_of(FIRST), *(caption_of({**FIRST, name: WORDS[name][1]}) for name in WORDS), ""]
    tokens = WordTexts().tokens(captions)
    assert tokens.shape == (6, 4, 48) and len({row.sum().item() for row in tokens}) == 6


@pytest.mark.slow
def test_the_smallest_run_goes_through():
    """What so short a training cannot decide, whether edits move what they name, is not asserted."""
    pytest.importorskip("diffusers")
    pytest.importorskip("accelerate")
    age, background = (next(edit for edit in EDITS if edit.name == name) for name in ("age", "background"))
    rows = edits(Plan(2, 1, rows=4, clips=2, held_out=2, sample_steps=1), (age, background))
    assert [row.name for row in rows] == ["age", "background"]
    assert all(math.isfinite(row.named) and math.isfinite(row.others) for row in rows)
    assert [row.stays for row in rows] == pytest.approx([0, 0], abs=0.01)  # the background, the person
