"""What a weight file is, where it comes from, how it is loaded."""
