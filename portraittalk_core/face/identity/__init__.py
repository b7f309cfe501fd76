"""Face embeddings for identity."""
