"""Evaluation: videos to numbers."""
