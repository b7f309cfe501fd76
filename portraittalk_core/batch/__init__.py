"""Batch runs: many jobs of one manifest."""
