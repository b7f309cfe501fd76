"""PortraitTalk's IdentityNet: a face becomes tokens, and the tokens speak to the UNet beside the text."""
