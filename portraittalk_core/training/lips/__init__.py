"""Training of the paper's lip renderer: alignment and rendering of a hidden mouth, with a discriminator."""
