"""The trainer that all stages share."""
