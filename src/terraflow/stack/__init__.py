"""The services of one machine: what they are, how they start, how they are."""
