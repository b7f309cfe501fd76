"""Training of the landmark generator: speech, head pose and reference faces to lips and jaw."""
