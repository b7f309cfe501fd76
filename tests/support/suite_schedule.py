"""Which tests share a worker of pytest-xdist, and which groups begin first.

A file is a group: its fixtures are made once. All that talk to the ComfyUI server are one group, since there is one
server; pages in a browser, which need little memory, have another server. Long groups begin first, so that the workers
end together. The node ids stay as they are, so that `--lf` and `-k` find tests with and without workers.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

ALONE = {
    "test_bindings.py",
    "test_comfy_place.py",
    "test_help_and_locales.py",
}  # in tests/nodes, but without its server
COMFY = "comfy"
PAGES = "pages"  # in a browser, on a server of their own: nothing large is loaded there
# Seconds of a processor, of the groups that take most: measured once, only their order matters.
SECONDS = {
    COMFY: 800,
    PAGES: 250,
    "tests/nodes/test_bindings.py": 70,
    "tests/core/cli/test_identitynet.py": 60,
    "tests/core/training/identitynet/test_training.py": 45,
    "tests/test_benchmark_animate.py": 40,
    "tests/core/training/style/test_vexpress.py": 35,
    "tests/core/training/style/test_attention_training.py": 34,
    "tests/core/cli/test_vexpress.py": 32,
    "tests/test_docs.py": 30,
    "tests/core/batch/test_workers.py": 29,
    "tests/core/cli/test_bad_input.py": 28,
    "tests/core/training/animatenet/test_faces.py": 22,
    "tests/core/training/recipe/test_recipe.py": 20,
    "tests/core/renderers/vexpress/test_pipeline.py": 19,
    "tests/core/cli/test_dub.py": 18,
    "tests/core/diffusion/test_windowed.py": 18,
    "tests/core/cli/test_keypoint_renderers.py": 18,
    "tests/core/renderers/identitynet/test_painter.py": 17,
    "tests/core/diffusion/test_step.py": 17,
    "tests/test_suite.py": 16,
    "tests/core/cli/test_source.py": 15,
    "tests/core/pipelines/test_talk.py": 15,
    "tests/core/cli/test_train.py": 15,
    "tests/core/training/style/test_training.py": 14,
    "tests/test_benchmark_ablation.py": 13,
    "tests/core/cli/test_lip_renderers.py": 12,
}


def group_of(nodeid: str) -> str:
    """The group of a test, by the file it is in."""
    path = PurePosixPath(nodeid.split("::", maxsplit=1)[0])
    if "nodes" in path.parts and path.name not in ALONE:
        return PAGES if path.name.startswith(("test_page", "test_timeline")) else COMFY
    return str(path)


def expected_seconds(group: str) -> float:
    return SECONDS.get(group, 0.0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Give pytest-xdist a scheduler that works by these groups, whatever `--dist` says."""
    from xdist.scheduler import LoadScopeScheduling

    class LongestFirst(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _assign_work_unit(self, node) -> None:
            longest = max(self.workqueue, key=expected_seconds)  # the first of equals
            self.workqueue.move_to_end(longest, last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return LongestFirst(config, log)
