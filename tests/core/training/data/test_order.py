from portraittalk_core.training.data.order import example_at


def test_every_example_comes_once_before_one_comes_again():
    order = [example_at(place, 7, 3) for place in range(21)]
    assert all(sorted(order[start : start + 7]) == list(range(7)) for start in (0, 7, 14))
    assert order[:7] != order[7:14]  # another order each time
    assert example_at(17, 7, 3) == order[17]  # whatever was asked before
    assert [example_at(place, 7, 4) for place in range(21)] != order
