"""Champion and challenger: a new model takes over only if it is better beyond chance."""
