"""Vector data: how files become geometries of labels."""

_READING = ("crs", "files", "layers", "points", "tables")
_LAYING_OUT = ("account", "cleaning", "geometry", "overlaps")
#: Modules whose code decides what is read from a file.
CODE = (__name__, *(f"{__name__}.{module}" for module in (*_READING, *_LAYING_OUT)))
