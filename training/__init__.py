"""Learning styles: read `transform_net`, then `losses`, then `trainer`, then `export`."""
