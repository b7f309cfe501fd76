"""Training of keypoint renderers: face-vid2vid's generator, keypoint detector and estimator, with a discriminator."""
