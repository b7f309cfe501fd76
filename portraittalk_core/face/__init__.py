"""Face landmarks (478 points): detection, geometry, crops and drawing."""
