"""Where the face is and how it is posed: 478 landmarks, geometry, drawing."""
