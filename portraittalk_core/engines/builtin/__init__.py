"""The built-in motion engine, which needs no file."""
