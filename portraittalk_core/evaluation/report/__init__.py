"""Reports of scores: JSON, CSV and HTML."""
