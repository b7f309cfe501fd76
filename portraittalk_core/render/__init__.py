"""The renderer that needs no weights: a portrait follows a LandmarkTrack."""
