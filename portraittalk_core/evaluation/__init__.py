"""Evaluation of videos: metrics and reports."""
