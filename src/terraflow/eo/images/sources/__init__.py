"""Where items come from: catalogues, files without one, the simulated area."""
