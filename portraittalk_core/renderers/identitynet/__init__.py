"""IdentityNet (PortraitTalk): SD1.5 with face tokens in decoupled cross-attention."""
