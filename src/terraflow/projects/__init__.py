"""New projects from the template, with the platform as a wheel."""
