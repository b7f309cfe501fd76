"""The warp: bends one picture to landmarks, without weights."""
