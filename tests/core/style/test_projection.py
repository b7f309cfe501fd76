from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from style_files import SPACE, style_attention

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.style.options import StyleUse
from portraittalk_core.style.prior import BlendedStyle, StylePrior
from portraittalk_core.style.projection import load_style_attention, save_style_attention
from portraittalk_core.style.reference import named_style


def test_file_round_trip_keeps_weights_space_and_sizes(tmp_path):
    net = style_attention(style_width=6, token_width=40)
    path = save_style_attention(net, tmp_path / "style.safetensors", {"trained": "yes"})
    again = load_style_attention(path)
    assert again.space == SPACE
    assert all(torch.equal(a, again.state_dict()[name]) for name, a in net.state_dict().items())
    assert again.tokens(torch.ones(2, 6)).shape == (2, 4, 40)


def test_another_base_than_it_was_trained_on_is_warned_of(tmp_path, caplog):
    net = style_attention()
    path = save_style_attention(net, tmp_path / "a.safetensors", {"trained_on": "V-Express"})
    loaded = load_style_attention(path)
    loaded.warn_other_base("V-Express")
    net.warn_other_base("SD1.5")  # a file that does not say it is SD1.5's
    assert not caplog.records
    loaded.warn_other_base("SD1.5")
    assert "trained on V-Express and acts in SD1.5" in caplog.text


def test_tokens_reject_another_width():
    with pytest.raises(InputError, match="styles"):
        style_attention(style_width=6).tokens(torch.ones(2, 7))


def test_space_must_be_the_one_it_was_trained_on():
    net = style_attention()
    net.check_space(SPACE, "my style")
    with pytest.raises(InputError, match=r"my style lives in the space manner.*extractor:test"):
        net.check_space("manner", "my style")


def test_attention_of_motion_statistics_takes_those_of_any_style():
    statistics = named_style("calm", StyleUse(noise=0.0))
    style = StylePrior(torch.ones(3), torch.zeros(3), torch.ones(3), SPACE, "anna", style_statistics=statistics)
    net = style_attention(style_width=11)
    net.space = "manner"
    assert net.suits(style) and net.suited(style) is statistics and net.suited(statistics) is statistics
    assert torch.equal(net.drawn(style, 2, 25)[0], statistics.mean.expand(2, -1))
    blend = BlendedStyle(style, replace(style, mean=torch.zeros(3)), ((0, 0), (1, 1)))
    assert net.suited(blend).space == "manner" and not style_attention().suits(statistics)
    with pytest.raises(InputError, match="the style anna lives in the space extractor:test, .*trained on manner"):
        net.drawn(replace(style, style_statistics=None), 2, 25)


@pytest.mark.parametrize(
    ("change", "told", "message"),
    [
        ({}, {"layout": "lora"}, "layout says lora"),
        ({}, {"base": "SDXL"}, "base says SDXL"),
        ({}, {"space": ""}, "on what styles"),
        ({"31.to_k.weight": None}, {}, "15 of 16 sites"),
        ({"style_proj.norm.weight": torch.ones(1024)}, {}, "Stable Diffusion 2"),
        ({"style_proj.norm.weight": torch.ones(7)}, {}, "no tokens of 7"),
        ({"1.to_q.weight": torch.full((32, 32), float("nan"))}, {}, "1.to_q.weight"),
    ],
)
def test_load_rejects(tmp_path, change, told, message):
    path = save_style_attention(style_attention(), tmp_path / "style.safetensors")
    tensors = load_file(path)
    for name, value in change.items():
        tensors.pop(name)
        if value is not None:
            tensors[name] = value
    save_file(tensors, path, {"layout": "style_attention", "base": "SD1.5", "space": SPACE, **told})
    with pytest.raises(InputError, match=message):
        load_style_attention(path)


def test_load_tells_of_a_missing_file(tmp_path):
    with pytest.raises(MissingDependency, match=r"none\.safetensors"):
        load_style_attention(tmp_path / "none.safetensors")
