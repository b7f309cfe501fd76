"""Training of Audio2Exp: speech moves the expression of a frozen keypoint renderer."""
