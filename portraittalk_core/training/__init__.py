"""Makes training data and trains the networks that the project ships or fits for a user."""
