"""Where items come from, catalogues, files, the simulated area, and which of them are taken."""
