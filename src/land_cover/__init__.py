"""The worked example: land cover from satellite images."""
