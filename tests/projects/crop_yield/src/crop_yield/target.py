"""What is learnt: the yield of fields."""

from terraflow.eo import Numbers

__all__ = ["CropYield"]


class CropYield(Numbers):
    """Yield in t/ha, of fields whose yield is known."""

    name, column, unit = "crop_yield", "yield_t_ha", "t/ha"
