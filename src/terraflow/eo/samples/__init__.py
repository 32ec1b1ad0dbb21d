"""Features with labels: the step preprocess."""
