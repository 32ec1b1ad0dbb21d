"""Give Airflow the DAGs of the YAML files of this folder, which dag-factory makes."""

from pathlib import Path

from terraflow.orchestration.yaml_files import load

globals().update(load(Path(__file__).parent))
