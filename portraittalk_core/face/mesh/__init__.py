"""Landmark detection: MediaPipe's face mesh in several back ends."""
