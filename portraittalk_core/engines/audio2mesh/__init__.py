"""AniPortrait's audio2mesh: speech to displacements of a face mesh."""
