"""From a waveform to what a motion engine listens to."""
