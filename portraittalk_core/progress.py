"""The callback type of all long work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # called with units of work done and in all; may raise to stop the work
