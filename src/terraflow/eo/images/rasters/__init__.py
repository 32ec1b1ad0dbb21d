"""What the file of a raster tells: where it lies, and which of its pixels are values."""
