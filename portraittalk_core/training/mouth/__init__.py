"""Training of the built-in mouth network."""
