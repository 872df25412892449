"""From a trained network to one that only predicts: folding (`fold`), and plans (`plan`). See docs/inference.md."""
