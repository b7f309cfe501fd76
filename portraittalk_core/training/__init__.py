"""Training data, and training of the networks that the project ships or adapts for a user."""
