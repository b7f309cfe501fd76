"""PortraitTalk's training as one recipe: IdentityNet, AnimateNet, then everything together."""
