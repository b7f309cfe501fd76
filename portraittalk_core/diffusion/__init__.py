"""Denoising with the user's SD1.5: where attention sits, what a denoiser is, how it is sampled."""
