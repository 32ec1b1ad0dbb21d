"""Deploy the model server, or the stack, to another machine over ssh."""
