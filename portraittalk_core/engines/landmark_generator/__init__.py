"""The motion engine of IP-LAP."""
