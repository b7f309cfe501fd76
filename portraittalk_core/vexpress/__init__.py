"""V-Express's conditioning of SD1.5: a reference network, drawn key points, and audio tokens for every frame."""
