"""Motion engines: speech to landmark tracks."""
