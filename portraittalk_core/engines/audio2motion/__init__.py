"""The motion engine of GeneFace++ and Real3D-Portrait."""
