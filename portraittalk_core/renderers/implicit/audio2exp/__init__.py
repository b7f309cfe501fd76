"""Audio2Exp: speech moves the expression of implicit keypoints (ControlTalk)."""
