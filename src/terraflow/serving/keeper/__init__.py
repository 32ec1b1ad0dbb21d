"""The process that holds the model server's socket, and changes the model behind it."""
