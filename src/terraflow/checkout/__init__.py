"""What a checkout keeps for itself on an odd machine: variables, and an environment of packages."""
