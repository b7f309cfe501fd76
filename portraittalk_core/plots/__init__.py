"""Plots of tracks, styles and comparisons."""
