"""Maps: the steps map, report, origin and reproduce."""
