"""Vector data: how files become geometries of labels."""

_MODULES = ("crs", "files", "geometry", "layers", "points", "tables")
#: Modules whose code decides what is read from a file.
CODE = (__name__, *(f"{__name__}.{module}" for module in _MODULES))
