"""Training samples: pure functions of (seed, index), drawn from footage, pairs and synthetic scenes."""
