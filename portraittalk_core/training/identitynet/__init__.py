"""Training of IdentityNet."""
