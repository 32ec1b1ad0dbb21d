"""Models by name; logging, loading and applying them."""
