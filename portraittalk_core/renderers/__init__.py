"""Renderers: from a portrait or film and a landmark track to video frames."""

from __future__ import annotations

from .contract import Callbacks, Film, Renderer, RendererSpec, RenderJob
from .registry import open_renderer, register, renderer_specs

__all__ = [
    "Callbacks", "Film", "RenderJob", "Renderer", "RendererSpec", "open_renderer", "register", "renderer_specs",
]  # fmt: skip
