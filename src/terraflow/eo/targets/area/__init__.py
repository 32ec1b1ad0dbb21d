"""Areas: of pixels, of strata, and of what a probability sample tells of them."""
