from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_api import Airflow, configure
from harness import Stack, shared
from terraflow.stack import minio


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.services)


@pytest.fixture(scope="session")
def minio_binary() -> Path:
    """Real MinIO; built here if Go is there."""
    if not (minio.find() or minio.can_build()):
        pytest.skip("there is no minio binary on PATH and no Go to build it")
    return minio.ensure(print)


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, minio_binary: Path, migrated: Path
) -> Iterator[Stack]:
    """All services, running; no DAG starts by itself."""
    one = Stack(tmp_path_factory.mktemp("stack"), TERRAFLOW_STORE="minio")
    one.take_databases(migrated)
    one.shrink()
    with shared(one):
        one.ok("up", "--detach")
        Airflow.at_rest(one)
        yield one


@pytest.fixture
def new_stack(tmp_path: Path, migrated: Path) -> Iterator[Callable[..., Stack]]:
    """Make stacks that are not started yet; whatever they leave is stopped."""
    made: list[Stack] = []

    def make(name: str = "stack", *, bare: bool = False, **variables: str) -> Stack:
        made.append(Stack(tmp_path / name, **variables))
        if not bare:
            made[-1].take_databases(migrated)
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def dag_stack(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Stack]:
    """A stack with local files, so that tests can make scenes of their own."""
    one = Stack(tmp_path_factory.mktemp("dags"), TERRAFLOW_STORE="local")
    one.take_databases(migrated)
    with shared(one):
        configure(one, ("2024-09-30", "2024-08-31"))
        one.ok("up", "--detach", "--only", "airflow,mlflow")
        yield one


@pytest.fixture(autouse=True)
def tracked(request: pytest.FixtureRequest) -> None:
    """Let a test of the DAGs ask their stack's MLflow, whichever stack the one before asked."""
    if "dag_stack" in request.fixturenames:
        request.getfixturevalue("dag_stack").track()


@pytest.fixture(scope="session")
def airflow(dag_stack: Stack) -> Airflow:
    api = Airflow(dag_stack)
    api.wait_for_dags()
    return api


@pytest.fixture(scope="session")
def trained(dag_stack: Stack, airflow: Airflow) -> str:
    """A champion that is easily beaten, trained by the DAG; the run of the DAG."""
    configure(dag_stack, ("2024-09-30", "2024-08-31"), weak=True)
    run = airflow.trigger("land_cover_training", tune=0)
    airflow.finished("land_cover_training", run)
    return run
