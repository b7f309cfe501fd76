"""Person segmentation: which pixels of a picture show people."""
