"""V-Express, the base that SVP builds on."""
