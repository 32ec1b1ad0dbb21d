from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler

from maps import make_model
from samples import CLASSES, FEATURES, make_samples
from terraflow.eo.config.sections import Model
from terraflow.eo.models.apply import apply_model
from terraflow.eo.models.choice import choose_model, fit, one_thread
from terraflow.eo.models.network import Network
from terraflow.eo.targets.classes.confidence import set_sizes


def fitted(classes: list[str] = CLASSES, **parameters: Any) -> Any:
    samples = make_samples()
    samples = samples[samples["class_name"].isin(classes)]
    model = Model.model_validate({"name": "mlp", "parameters": {"max_iter": 100} | parameters})
    # far from zero beside their spread, as reflectances are
    features = (samples[FEATURES] * 0.01 + 0.3).astype("float32")
    with one_thread():
        return fit(choose_model(model, {}, seed=42).make(), features, samples["class_name"])


def some_pixels() -> np.ndarray:
    """Shape (feature, pixel), float32: such as a model was trained with, and some far away."""
    random = np.random.default_rng(3)
    scale = np.repeat([1, 30], [40_000, 2_000])
    values = random.normal(scale=scale, size=(len(FEATURES), len(scale)))
    return (values * 0.01 + 0.3).astype("float32")


@pytest.mark.parametrize(
    ("classes", "parameters"),
    [
        (CLASSES, {}),
        (CLASSES, {"hidden_layer_sizes": [16, 8]}),
        (CLASSES[:2], {}),
        (CLASSES, {"hidden_layer_sizes": []}),
    ],
)
def test_network_decides_as_the_library_but_for_rounding(
    classes: list[str], parameters: dict[str, Any]
) -> None:
    classifier, pixels = fitted(classes, **parameters), some_pixels()
    network = Network.of(classifier)
    assert network
    number, probability = network.decide(pixels)
    table = pd.DataFrame(pixels.T.astype("float64"), columns=FEATURES)
    expected = classifier.predict_proba(table)
    assert np.abs(probability - expected.max(axis=1)).max() < 1e-4
    ordered = np.sort(expected, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 1e-4
    assert (number == expected.argmax(axis=1))[clear].all()
    assert clear.mean() > 0.999
    assert len(np.unique(number)) == len(classes)


def test_network_counts_the_classes_of_a_set_as_the_library_does() -> None:
    classifier, pixels = fitted(), some_pixels()
    network = Network.of(classifier)
    assert network
    expected = classifier.predict_proba(pd.DataFrame(pixels.T.astype("float64"), columns=FEATURES))
    for bound in (0.05, 0.3, 0.99):
        number, probability, sizes = network.decide_in_sets(pixels, bound)
        assert sizes is not None
        assert (number == network.decide(pixels)[0]).all()
        assert (probability == network.decide(pixels)[1]).all()
        assert (sizes != set_sizes(expected, bound)).mean() < 1e-3
    assert sizes.min() == sizes.max() == 1


def test_apply_model_by_network_equals_the_library_in_class_and_confidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model(estimator=fitted(), info={"levels": CLASSES, "features": FEATURES})
    pixels = xr.DataArray(some_pixels().reshape(4, 210, 200), dims=("feature", "y", "x"))
    ours = apply_model(model, pixels)
    monkeypatch.setattr(Network, "of", lambda classifier: None)
    library = apply_model(model, pixels)
    assert (ours[0] != library[0]).mean() < 1e-4
    assert np.abs(ours[1].astype(int) - library[1]).max() <= 1
    assert (ours[1] != library[1]).mean() < 1e-3


@pytest.mark.parametrize(
    "classifier",
    [
        make_pipeline(StandardScaler(), MLPClassifier(activation="tanh")),
        make_pipeline(RobustScaler(), MLPClassifier()),
        make_pipeline(StandardScaler(), StandardScaler(), MLPClassifier()),
        MLPClassifier(),
    ],
)
def test_network_of_another_classifier_is_left_to_the_library(classifier: Any) -> None:
    samples = make_samples()
    with one_thread():
        fit(classifier, samples[FEATURES], samples["class_name"])
    assert Network.of(classifier) is None
