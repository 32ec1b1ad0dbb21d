"""Vector data: how files become geometries of labels."""

#: Modules whose code decides what is read from a file: all of this package.
CODE = (__name__,)
