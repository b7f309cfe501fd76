"""AnimateNet (PortraitTalk): landmark control, head placement and their attention."""
