"""V-Express, the audio-driven renderer that SVP builds on."""
