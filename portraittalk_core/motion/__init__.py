"""Speech becomes a LandmarkTrack; one engine a file."""
