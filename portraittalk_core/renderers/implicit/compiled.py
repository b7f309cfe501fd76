"""Networks compiled by torch; where no compiler can be used they run as they are, with a warning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from torch import Tensor, fx

from .interrupt import modules_of

log = logging.getLogger(__name__)

MAX_REASON = 200  # characters of an error that the warning quotes
ADVICE = "a C++ compiler on a CPU (g++, clang or MSVC), Triton on a GPU"


def compile_networks(model: object) -> None:
    """Let torch compile the networks of a model; they compile when they are first called."""
    compiler = Compiler()
    for network in modules_of(model):
        network.compile(dynamic=False, backend=compiler)


class Compiler:
    """Backend of torch.compile: torch's own, Inductor; after its first failure graphs run uncompiled."""

    def __init__(self) -> None:
        self._failed = False

    def __call__(self, graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Callable:
        """What runs in the place of a graph."""
        if self._failed:
            return graph.forward
        try:
            from torch._inductor.compile_fx import compile_fx

            return compile_fx(graph, inputs)
        except Exception as error:  # noqa: BLE001 - torch, compilers and drivers raise what they like
            self._failed = True
            log.warning(
                "torch cannot compile the networks here (%s); they run uncompiled. It needs %s; leave `compile` out to "
                "be rid of this message.",
                reason(error),
                ADVICE,
            )
            return graph.forward


def reason(error: BaseException) -> str:
    """The first line of an error that says something, shortened."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:MAX_REASON] if first else type(error).__name__
