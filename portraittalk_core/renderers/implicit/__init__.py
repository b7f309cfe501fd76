"""Renderers with implicit keypoints: face-vid2vid (ControlTalk) and LivePortrait."""
