"""What is known of a pixel, window by window."""
