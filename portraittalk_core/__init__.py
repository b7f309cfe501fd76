"""PortraitTalk: one portrait and a speech clip become a talking-face video."""

__version__ = "0.1.0"
