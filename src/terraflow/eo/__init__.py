"""The Earth Observation library: from images to maps, one room for each kind of work."""
