"""Benchmarks of speed, memory and quality, as ratios of variants measured in one run."""
