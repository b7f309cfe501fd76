"""The warp renderer: a picture warped to a landmark track by splines, without network weights."""
