"""Areas and accuracies of a map from a probability sample of it: draw, interpret, estimate."""
