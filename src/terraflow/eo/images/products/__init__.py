"""What the files of known products tell of their values beside the pixels."""
