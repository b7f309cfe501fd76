"""Training of AnimateNet."""
