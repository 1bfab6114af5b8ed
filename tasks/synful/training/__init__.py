"""Training of Synful's networks: cubes and points, augmentation, targets, losses, and the loop that keeps checkpoints (spec 5)."""
