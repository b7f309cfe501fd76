"""The timeline under Audio2Exp in a real browser: a keypoint track's face and curves, and alpha to draw."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from browser import Tab
from timeline_tab import Timeline

from portraittalk_core.motion.gain import gain_points
from portraittalk_core.motion.keypoint_edit import added
from portraittalk_core.motion.keypoint_regions import known_basis
from portraittalk_core.plots.keypoint_timeline import keypoint_timeline_payload
from portraittalk_core.types import KeypointTrack, Speech

pytestmark = pytest.mark.comfy

NODE, FRAMES = "PortraitTalkAudio2Exp", 100


def payload() -> dict:
    """Of four seconds: lips that open and close four times, on a head that turns."""
    at = torch.arange(FRAMES) / FRAMES
    head, place = torch.zeros(FRAMES, 3), torch.zeros(FRAMES, 3)
    head[:, 1] = 30 * torch.sin(6.28 * at)
    seen, ones = torch.ones(FRAMES, dtype=torch.bool), torch.ones(FRAMES)
    still = KeypointTrack(torch.zeros(FRAMES, 21, 3), head, place, ones, seen, Fraction(25), "liveportrait-21")
    opening = 0.35 * torch.sin(4 * 3.14 * at).square()
    track = added(replace(still), opening, known_basis("liveportrait-21").parting)
    sound = 0.2 * torch.randn(64_000, generator=torch.Generator().manual_seed(0))
    return keypoint_timeline_payload(track, Speech(sound, 16_000), torch.ones(FRAMES))


def test_alpha_is_drawn_under_audio2exp(browser):
    async def act(tab: Tab) -> None:
        timeline = Timeline(tab, NODE)
        await tab.evaluate(
            f"(() => {{ app.graph.clear(); const n = LiteGraph.createNode('{NODE}'); app.graph.add(n);"
            "n.pos = [60, 40]; app.canvas.draw(true, true); })()"
        )
        await tab.until(lambda: timeline.ask("!!t"), True)
        await timeline.ask(f"(n.onExecuted({json.dumps({'portraittalk_timeline': [payload()]})}), 1)")
        shown = [FRAMES, 4.0, "alpha_points"]
        await tab.until(lambda: timeline.ask("[t.track?.frames, t.track?.seconds, w.name]"), shown)
        await tab.mouse("mouseMoved", await timeline.place(0.05, 1.5))
        first = await timeline.face()
        await tab.mouse("mouseMoved", await timeline.place(0.25, 1.5))
        assert await timeline.face() != first  # the head turns, the mouth opens
        await tab.click(await timeline.place(0.25, 0.0))
        await tab.click(await timeline.place(0.75, 2.0))
        assert await timeline.points() == [pytest.approx((1.0, 0.0), abs=0.04), pytest.approx((3.0, 2.0), abs=0.04)]
        assert gain_points(await timeline.ask("w.value")) == await timeline.points()
        assert "alpha" in await timeline.ask("t.canvas.getAttribute('aria-valuetext')")
        await tab.shoot("timeline_audio2exp")

    browser.visit(act)
