"""The motion engine of JoyVASA: speech to implicit keypoints of LivePortrait."""
