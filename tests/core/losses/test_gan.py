import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from portraittalk_core.errors import InputError
from portraittalk_core.losses.gan import discriminator_loss, generator_loss


@pytest.fixture
def logits():
    draw = torch.Generator().manual_seed(0)
    return ([torch.randn(2, 1, side, side, generator=draw) for side in (5, 3)] for _ in range(2))


def test_lsgan_matches_mean_squared_errors_to_the_labels(logits):
    real, generated = logits
    expected = sum(
        0.5 * (mse_loss(x, torch.ones_like(x)) + mse_loss(y, torch.zeros_like(y)))
        for x, y in zip(real, generated, strict=True)
    )
    assert float(discriminator_loss(real, generated)) == pytest.approx(float(expected / 2), rel=1e-6)
    expected = sum(mse_loss(y, torch.ones_like(y)) for y in generated) / 2
    assert float(generator_loss(generated)) == pytest.approx(float(expected), rel=1e-6)


def test_hinge_matches_a_plain_loop(logits):
    real, generated = ([x.tolist() for x in side] for side in logits)

    def flat(scale):
        return [value for picture in scale for row in picture[0] for value in row]

    def mean(values):
        return sum(values) / len(values)

    expected = mean([
        mean([max(0, 1 - value) for value in flat(x)]) + mean([max(0, 1 + value) for value in flat(y)])
        for x, y in zip(real, generated, strict=True)
    ])  # fmt: skip
    loss = discriminator_loss([torch.tensor(x) for x in real], [torch.tensor(y) for y in generated], "hinge")
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    loss = generator_loss([torch.tensor(y) for y in generated], "hinge")
    assert float(loss) == pytest.approx(-mean([mean(flat(y)) for y in generated]), rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "value", "discriminator", "generator"),
    [("lsgan", 0.5, 0.25, 0.25), ("lsgan", 1.0, 0.5, 0.0), ("hinge", 0.0, 2.0, 0.0), ("hinge", 3.0, 4.0, -3.0)],
)
def test_losses_of_one_logit_for_everything(kind, value, discriminator, generator):
    """By hand: ½ ((v − 1)² + v²) and (v − 1)²; max(0, 1 − v) + max(0, 1 + v) and −v."""
    same = [torch.full((1, 1, 2, 2), value)]
    assert float(discriminator_loss(same, same, kind)) == pytest.approx(discriminator)
    assert float(generator_loss(same, kind)) == pytest.approx(generator)


@pytest.mark.parametrize("kind", ["lsgan", "hinge"])
def test_losses_pull_logits_to_their_side(kind):
    """As binary cross-entropy does, whatever the kind."""
    fixed = [torch.zeros(1, 1, 2, 2)]
    losses = {
        "real": lambda x: discriminator_loss([x], fixed, kind),
        "generated": lambda x: discriminator_loss(fixed, [x], kind),
        "generator": lambda x: generator_loss([x], kind),
    }
    for side, label in (("real", 1.0), ("generated", 0.0), ("generator", 1.0)):
        ours, other = (torch.full((1, 1, 2, 2), 0.3, requires_grad=True) for _ in range(2))
        losses[side](ours).backward()
        binary_cross_entropy_with_logits(other, torch.full_like(other, label)).backward()
        assert torch.equal(ours.grad.sign(), other.grad.sign())


def test_hinge_gives_no_gradient_beyond_the_margin():
    logits = torch.tensor([[0.5, 1.5]], requires_grad=True)
    discriminator_loss([logits], [torch.full((1, 2), -2.0)], "hinge").backward()
    assert logits.grad.tolist() == [[-0.5, 0.0]]


def test_losses_are_float32_of_half_precision():
    half = [torch.ones(1, 1, 2, 2, dtype=torch.bfloat16)]
    assert discriminator_loss(half, half).dtype == generator_loss(half).dtype == torch.float32


def test_losses_reject_what_they_cannot_compare():
    one = [torch.zeros(1, 1, 2, 2)]
    with pytest.raises(InputError, match="lsgan, hinge"):
        generator_loss(one, "wasserstein")
    with pytest.raises(InputError, match="1 and 2 scales"):
        discriminator_loss(one, one * 2)
    with pytest.raises(InputError, match="a list"):
        generator_loss(one[0])
