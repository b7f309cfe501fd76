"""Weight files: catalogue, recognition and loading."""
