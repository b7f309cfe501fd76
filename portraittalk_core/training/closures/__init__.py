"""Training of the closure network: where lips close and tuck, as a class of every 10 ms of speech."""
