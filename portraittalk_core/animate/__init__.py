"""PortraitTalk's AnimateNet: every frame follows the landmarks, and the frames hold together."""
