"""Benchmarks of speed, memory and quality, as ratios of variants measured in one run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))  # drawn faces, toy speech
