"""Training clips of videos."""
