"""Airflow's DAG runs."""
