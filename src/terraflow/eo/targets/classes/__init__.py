"""Classes: the target that is built in."""
