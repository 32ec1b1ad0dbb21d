"""Labels of classes: polygons, points or a raster, and the names in them."""
