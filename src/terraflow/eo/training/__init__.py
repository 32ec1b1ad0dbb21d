"""Cross-validation, search, promotion and the run: the steps train and promote."""
