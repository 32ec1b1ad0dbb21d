"""Vector data: how files become geometries of labels."""

#: Modules whose code decides what is read from a file.
CODE = (
    __name__,
    *(
        f"{__name__}.{module}"
        for module in ("files", "points", "account", "cleaning", "geometry", "overlaps")
    ),
)
