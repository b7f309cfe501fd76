"""Feature networks of losses; their weights are the user's."""
