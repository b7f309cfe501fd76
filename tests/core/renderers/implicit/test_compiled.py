"""Networks that torch compiles, or cannot compile here."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import torch
from torch import nn

from portraittalk_core.renderers.implicit import compiled


class Layer(nn.Module):
    """torch compiles modules of others, not its own."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width)

    def forward(self, x):
        return self.linear(x).sin()


def networks() -> SimpleNamespace:
    torch.manual_seed(0)
    return SimpleNamespace(first=Layer(4, 8), second=Layer(8, 2), name="networks")


@torch.no_grad()
def test_without_a_compiler_networks_run_as_they_are_and_say_so_once(monkeypatch, caplog):
    import torch._inductor.compile_fx as inductor

    asked = []

    def none(graph, inputs):
        asked.append(graph)
        raise RuntimeError("\n  No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')\nmore")

    monkeypatch.setattr(inductor, "compile_fx", none)
    model, x = networks(), torch.randn(3, 4)
    expected = model.second(model.first(x))
    compiled.compile_networks(model)
    with caplog.at_level(logging.WARNING):
        made = [model.second(model.first(x)) for _ in range(2)]
    assert all(torch.equal(one, expected) for one in made)
    assert len(asked) == 1  # the second network does not try again
    (told,) = [record.getMessage() for record in caplog.records if record.name == compiled.__name__]
    assert "No working C++ compiler found" in told and "run uncompiled" in told and "more" not in told
    assert "g++" in compiled.ADVICE and "Triton" in told


@torch.no_grad()
def test_torchs_own_compiler_is_the_one_that_is_used(monkeypatch):
    import torch._inductor.compile_fx as inductor

    graphs = []
    monkeypatch.setattr(inductor, "compile_fx", lambda graph, inputs: graphs.append(graph) or graph.forward)
    model, x = networks(), torch.randn(3, 4)
    expected = model.second(model.first(x))
    compiled.compile_networks(model)
    assert torch.equal(model.second(model.first(x)), expected) and len(graphs) == 2
    model.second(model.first(x))
    assert len(graphs) == 2  # compiled once
