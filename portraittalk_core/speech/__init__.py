"""Features of speech: mel spectrograms, pitch, voice activity and pretrained encoders."""
