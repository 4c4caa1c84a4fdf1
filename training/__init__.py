"""Learning styles: read `transform_net`, then `losses`, `perceptual_loss`, then `trainer`, then `export`."""
