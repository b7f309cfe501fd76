"""Motion options, motion curves and the face rig that turns them into landmark tracks."""
