"""What stands before MLflow's server: who may ask, and where artifacts may lie."""
