"""Airflow from the shell, through its REST API."""
