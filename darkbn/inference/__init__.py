"""From a trained network to one that only predicts."""
