"""The reference project: land cover from satellite images, in steps from URIs to URIs."""
