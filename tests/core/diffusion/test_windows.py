import pytest
import torch

from portraittalk_core.diffusion.windows import (
    WEIGHTS,
    Chunk,
    chunks,
    free_noise_order,
    fuse,
    static_windows,
    weights_of,
    window_weights,
)
from portraittalk_core.errors import InputError


def ends(windows):
    return [(window[0], window[-1]) for window in windows]


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (40, [(0, 15), (12, 27), (24, 39)]),
        (17, [(0, 15), (1, 16)]),
        (49, [(0, 15), (12, 27), (24, 39), (33, 48)]),
        (16, [(0, 15)]),
        (5, [(0, 4)]),
        (1, [(0, 0)]),
    ],
)
def test_static_windows_are_those_of_the_design(num_frames, expected):
    assert ends(static_windows(num_frames)) == expected


@pytest.mark.parametrize(("length", "overlap"), [(16, 4), (16, 15), (8, 0), (24, 13), (1, 0)])
def test_every_frame_is_in_a_window_and_no_window_twice(length, overlap):
    for num_frames in range(1, 60):
        windows = static_windows(num_frames, length, overlap)
        assert {frame for window in windows for frame in window} == set(range(num_frames))
        assert all(len(window) == min(length, num_frames) for window in windows)
        assert len(set(windows)) == len(windows)


def test_weights_match_their_formulas():
    assert window_weights(16).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1]
    assert window_weights(5).tolist() == [1, 2, 3, 2, 1]
    assert window_weights(3, "flat").tolist() == [1, 1, 1]
    fading = window_weights(8, "overlap_linear", 3)
    torch.testing.assert_close(fading, torch.tensor([0, 0.5, 1, 1, 1, 1, 0.5, 0]), rtol=0, atol=2e-6)
    assert window_weights(8, "overlap_linear", 3, is_first=True)[:3].tolist() == [1, 1, 1]
    assert window_weights(8, "overlap_linear", 3, is_last=True)[-3:].tolist() == [1, 1, 1]
    relative = [max(0.01, 1 - abs(i - 7.5) / 7.505) for i in range(16)]
    torch.testing.assert_close(window_weights(16, "relative"), torch.tensor(relative))


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("overlap", [0, 1, 4, 15])
def test_weights_are_above_zero_and_agreement_stays(kind, overlap):
    picture = torch.randn(1, 4, 2, 2)
    windows = static_windows(49, 16, overlap)
    weights = weights_of(windows, 49, kind, overlap)
    assert all((weight > 0).all() for weight in weights)
    parts = [picture.expand(16, -1, -1, -1) for _ in windows]
    torch.testing.assert_close(fuse(parts, windows, weights, 49), picture.expand(49, -1, -1, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_fused_frames_are_weighted_means(kind):
    windows = static_windows(10, 6, 3)
    weights = weights_of(windows, 10, kind, 3)
    parts = [torch.randn(6, 3) for _ in windows]
    fused = fuse(iter(parts), windows, weights, 10)
    for frame in range(10):
        seen = [(w[frame - at.start], p[frame - at.start]) for w, p, at in zip(weights, parts, windows, strict=True)
                if frame in at]  # fmt: skip
        expected = sum(weight * part for weight, part in seen) / sum(weight for weight, _ in seen)
        torch.testing.assert_close(fused[frame], expected)
    assert fuse([part.half() for part in parts], windows, weights, 10).dtype == torch.float16


def test_free_noise_order_repeats_shuffled_frames():
    order = free_noise_order(50, seed=3)
    assert order[:16].tolist() == list(range(16))
    for start in range(16, 48, 4):
        source = order[start - 16 : start - 12].tolist()
        assert sorted(order[start : start + 4].tolist()) == sorted(source)
    assert sorted(order[16:20].tolist()) == [0, 1, 2, 3]
    assert torch.equal(free_noise_order(50, seed=3), order)
    assert not torch.equal(free_noise_order(50, seed=4), order)
    assert torch.equal(free_noise_order(31, seed=3), order[:31])
    assert free_noise_order(7).tolist() == list(range(7))


def test_chunks_begin_with_what_the_one_before_finished():
    assert chunks(40) == [Chunk(range(0, 16), 0), Chunk(range(12, 28), 4), Chunk(range(24, 40), 4)]
    assert chunks(17, 16, 1) == [Chunk(range(0, 16), 0), Chunk(range(1, 17), 15)]
    assert chunks(3, 1, 0) == [Chunk(range(i, i + 1), 0) for i in range(3)]
    assert chunks(9, 16, 4) == [Chunk(range(9), 0)]
    for num_frames in range(1, 70):
        new = [frame for chunk in chunks(num_frames) for frame in chunk.frames[chunk.num_fixed :]]
        assert new == list(range(num_frames))
        assert all(chunk.num_fixed >= 4 for chunk in chunks(num_frames)[1:])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: static_windows(40, 16, 16), "overlap of 16 frames does not fit windows of 16; choose 0 to 15"),
        (lambda: static_windows(4, 16, 20), "overlap of 20"),
        (lambda: chunks(40, 16, -1), "overlap of -1"),
        (lambda: static_windows(0), "0 frames in windows of 16"),
        (lambda: static_windows(9, 0), "9 frames in windows of 0"),
        (lambda: window_weights(16, "round"), "must be one of pyramid, flat, relative, overlap_linear, not 'round'"),
        (lambda: window_weights(4, "overlap_linear", 4), "overlap of 4"),
        (lambda: free_noise_order(40, stride=0), "stride is 0; choose 1 to 16"),
        (lambda: free_noise_order(40, stride=17), "stride is 17"),
        (lambda: fuse([torch.ones(4, 1)], [range(4)], [torch.ones(4)], 6), "do not cover 6 frames: frame 4"),
        (lambda: fuse([torch.ones(4, 1)], [range(4)], [torch.ones(4)], 3), "do not cover 3 frames: frame 3"),
        (lambda: fuse([torch.ones(3, 1)], [range(4)], [torch.ones(4)], 4), "3 frames with 4 weights .* frames 0 to 3"),
        (lambda: fuse([], [range(4)], [torch.ones(4)], 4), "0 parts with 1 weights do not fill 1 windows"),
    ],
)
def test_what_cannot_be_cut_or_joined_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
