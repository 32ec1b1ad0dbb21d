"""Where labels would help: the step label_next."""
