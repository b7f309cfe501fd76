"""Feature networks of metrics; their weights are the user's."""
