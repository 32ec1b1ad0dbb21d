"""MLflow's runs and model registry."""
