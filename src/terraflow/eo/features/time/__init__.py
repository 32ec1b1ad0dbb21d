"""What is made of the dates: periods, composites of each, statistics over all."""
