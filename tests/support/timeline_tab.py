"""The timeline under a node of ComfyUI's page: what it holds, and where to click."""

from __future__ import annotations

import asyncio
import json
import warnings

import pytest
from browser import SETTLE_S, Tab

from portraittalk_core.motion.gain import gain_points

DRAW = "import('/extensions/pt_under_test/timeline_draw.js')"
POINTS = "import('/extensions/pt_under_test/timeline_points.js')"
BOX = "(b => [b.left, b.top, b.right, b.bottom])(t.canvas.getBoundingClientRect())"


class Timeline:
    """The timelines of all nodes of one kind, in the order of their numbers."""

    def __init__(self, tab: Tab, kind: str) -> None:
        self.tab = tab
        self.nodes = f"app.graph._nodes.filter(n => n.type === '{kind}').sort((a, b) => a.id - b.id)"

    async def ask(self, script: str, node: int = 0):
        """What a script says of a node `n`, its timeline `t` and its text widget `w`."""
        names = f"const n = {self.nodes}[{node}], t = n.portraittalkTimeline, w = t?.widget;"
        return json.loads(
            await self.tab.evaluate(f"(async () => {{ {names} return JSON.stringify(await ({script})); }})()")
        )

    async def run(self) -> None:
        """Run the graph, until every timeline has its track."""
        assert await self.tab.run() == "success"
        await self.tab.wait_for(f"{self.nodes}.every(n => n.portraittalkTimeline.track)")
        await asyncio.sleep(SETTLE_S)

    async def place(self, share: float, gain: float) -> tuple[float, float]:
        """Where on the screen a share of the clip and a gain lie."""
        return await self.ask(
            f"{DRAW}.then(m => {{ const b = t.canvas.getBoundingClientRect(), k = b.width / t.size.width;"
            "const lane = m.layout(t.size.width, t.size.height).gain;"
            f"return [b.x + k * (lane.x + {share} * lane.w), b.y + k * m.gainToY(lane, {gain})]; }})"
        )

    async def points(self, node: int = 0) -> list[tuple[float, float]]:
        """The widget's text as the node itself reads it."""
        return gain_points(await self.ask("w.value", node))

    async def face(self) -> int:
        """A sum over the pixels of the face, another one for another face."""
        return await self.ask(
            f"{DRAW}.then(m => {{ t.drawNow(); const r = t.canvas.width / t.size.width;"
            "const f = m.layout(t.size.width, t.size.height).face;"
            "const d = t.canvas.getContext('2d').getImageData(f.x * r, f.y * r, f.w * r, f.h * r).data;"
            "return d.reduce((sum, value, index) => (sum * 31 + value * (index % 97 + 1)) % 1000003, 7); })"
        )

    async def skip_without_dom_widgets(self) -> None:
        """ComfyUI's frontend 1.27 hides an unfinished newer rendering that shows no DOM widget at all."""
        if not await self.tab.evaluate("!!LiteGraph.vueNodesMode"):
            reason = "this frontend knows no other rendering of nodes"
        elif await self.ask("t.element.isConnected"):
            return
        else:
            version = await self.tab.evaluate("window.__COMFYUI_FRONTEND_VERSION__ ?? 'an old version'")
            reason = f"ComfyUI's frontend {version} shows no DOM widgets in its experimental rendering: NOT TESTED."
            warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
