"""LivePortrait: networks, retargeting and file layouts."""
