"""Where Airflow and MLflow keep their metadata: SQLite's files, or PostgreSQL."""
