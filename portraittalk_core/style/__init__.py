"""Speaking style: priors learnt as Gaussians, style statistics of landmark tracks, and style attention in the UNet."""
