"""face-vid2vid: networks and file layouts; ControlTalk and SadTalker use it."""
