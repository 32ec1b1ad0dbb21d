"""Starting the stack, waiting for it, stopping it."""
