"""Renderers: a portrait or film and motion to pictures."""
