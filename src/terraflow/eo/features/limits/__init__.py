"""How much can be worked on."""
