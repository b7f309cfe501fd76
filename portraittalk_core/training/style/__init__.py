"""Training of style extractors and style attention."""
