from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
import skops.io
from sklearn.base import clone

from land_cover.models import trees_and_network
from samples import CLASSES, FEATURES, make_samples

SMALL = {"trees__n_estimators": 10, "network__mlpclassifier__max_iter": 50}
#: Types, beside skops' own, that the stored model holds; none is of this project.
TRUSTED = [
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(seed: int = 0, **parameters: object) -> tuple[object, np.ndarray]:
    """A model and its probabilities of the samples that it was fitted on."""
    samples = make_samples()
    model = trees_and_network(random_state=seed, **SMALL | parameters)
    model.fit(samples[FEATURES], samples["class_name"])
    return model, model.predict_proba(samples[FEATURES])


def test_trees_and_network_learns_the_classes() -> None:
    model, probabilities = fitted()
    assert list(model.classes_) == CLASSES
    assert probabilities.shape == (len(make_samples()), len(CLASSES))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    elsewhere = make_samples(seed=1)
    right = model.predict(elsewhere[FEATURES]) == elsewhere["class_name"]
    assert right.mean() > 0.8


def test_trees_and_network_is_the_mean_of_its_members() -> None:
    model, probabilities = fitted()
    table = make_samples()[FEATURES]
    members = [member.predict_proba(table) for member in model.estimators_]
    np.testing.assert_allclose(probabilities, np.mean(members, axis=0))


def test_trees_and_network_same_seed_gives_the_same_model() -> None:
    assert (fitted(seed=3)[1] == fitted(seed=3)[1]).all()
    assert (fitted(seed=3)[1] != fitted(seed=4)[1]).any()


def test_trees_and_network_every_member_is_seeded_and_has_one_thread() -> None:
    parameters = trees_and_network(random_state=7).get_params()
    seeds = [value for name, value in parameters.items() if name.endswith("random_state")]
    threads = [value for name, value in parameters.items() if name.endswith("n_jobs")]
    assert (seeds, threads) == ([7, 7], [1, 1])


def test_trees_and_network_clone_is_alike() -> None:
    model, probabilities = fitted(trees__min_samples_leaf=4)
    samples = make_samples()
    again = clone(model).fit(samples[FEATURES], samples["class_name"])
    assert again.get_params()["trees__min_samples_leaf"] == 4
    assert (again.predict_proba(samples[FEATURES]) == probabilities).all()


def test_trees_and_network_weights_choose_between_the_members() -> None:
    model, probabilities = fitted(weights=[0, 1])
    network = model.named_estimators_["network"]
    assert (probabilities == network.predict_proba(make_samples()[FEATURES])).all()


def test_trees_and_network_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        trees_and_network(depth=3)


def test_trees_and_network_stored_by_skops_holds_no_other_types() -> None:
    model, probabilities = fitted()
    stored = skops.io.dumps(model)
    assert skops.io.get_untrusted_types(data=stored) == TRUSTED
    loaded = skops.io.loads(stored, trusted=TRUSTED)
    assert (loaded.predict_proba(make_samples()[FEATURES]) == probabilities).all()


def test_trees_and_network_stored_by_mlflow_predicts_the_same(tmp_path: Path) -> None:
    model, probabilities = fitted()
    mlflow.sklearn.save_model(
        model,
        tmp_path / "model",
        serialization_format="skops",
        skops_trusted_types=TRUSTED,
        pip_requirements=[],
    )
    loaded = mlflow.sklearn.load_model(str(tmp_path / "model"))
    assert (loaded.predict_proba(make_samples()[FEATURES]) == probabilities).all()
