from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from learning import make_choice
from samples import FEATURES, make_samples
from terraflow.eo.built_in import Classification
from terraflow.eo.config.sections import Validation
from terraflow.eo.models.choice import fit, one_thread, takes_weights
from terraflow.eo.training.cross_validation import Table, cross_validate
from terraflow.eo.training.folds import spatial_folds
from terraflow.eo.training.train import remarks_on
from terraflow.eo.training.weights import count_weighted, label_weights, learning_weights
from terraflow.errors import ConfigError, DataError

STRATA = np.array(["a", "a", "b", "b"], dtype=object)
TARGET = Classification()
STANDS_FOR = {"forest": 50, "grassland": 3, "water": 1}


def test_label_weights_by_hand() -> None:
    found = label_weights(STRATA, {"a": 100, "b": 4})
    assert found is not None
    assert found.tolist() == [50, 50, 2, 2]


@pytest.mark.parametrize("counts", [{"a": 2, "b": 2}, {"a": 20, "b": 20}, {}])
def test_label_weights_of_equal_shares_are_none(counts: dict[str, int]) -> None:
    assert label_weights(STRATA, counts) is None


def test_label_weights_of_more_samples_than_labels_are_refused() -> None:
    with pytest.raises(DataError, match="a has 2 samples of 1 labelled pixels"):
        label_weights(STRATA, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("priors", "share"), [("labels", 100 / 104), ("equal", None), ({"a": 3, "b": 1}, 0.75)]
)
def test_learning_weights_give_the_shares_that_are_asked_for(
    priors: object, share: float | None
) -> None:
    found = learning_weights(STRATA, {"a": 100, "b": 4}, priors)  # type: ignore[arg-type]
    if share is None:
        assert found is None  # two samples of each
    else:
        assert found is not None
        assert found.mean() == pytest.approx(1)
        assert found[:2].sum() / found.sum() == pytest.approx(share)


@pytest.mark.parametrize("priors", [{"a": 1}, {"a": 1, "b": 1, "c": 1}])
def test_learning_weights_of_other_strata_are_refused(priors: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="is in one of them alone: correct priors"):
        learning_weights(STRATA, {}, priors)


def test_count_weighted_is_the_count_of_repeated_samples() -> None:
    random = np.random.default_rng(0)
    reference = random.choice(["a", "b", "c"], 60)
    predictions = random.dirichlet(np.ones(3), 60)
    groups, times = random.integers(3, 7, 60), random.integers(1, 4, 60)
    found = count_weighted(
        TARGET, reference, predictions, groups, levels=["a", "b", "c"], weights=times.astype(float)
    )
    again = np.repeat(np.arange(60), times)
    expected = TARGET.count(reference[again], predictions[again], groups[again], ["a", "b", "c"])
    assert (found == expected).all()


def balanced() -> tuple[Table, pd.DataFrame]:
    """Many forests, few of the others; as many samples of each."""
    samples = make_samples(blocks=30, per_block=20)
    strata = samples["class_name"]
    used = strata.value_counts()
    counts = {name: int(used[name]) * factor for name, factor in STANDS_FOR.items()}
    return Table(
        samples[FEATURES],
        strata,
        samples["block"],
        TARGET,
        TARGET.levels(strata),
        label_weights(strata, counts),
        learning_weights(strata, counts, "labels"),
    ), samples


def test_scores_are_of_the_labelled_pixels_and_those_as_drawn_stand_beside() -> None:
    table, samples = balanced()
    folds = spatial_folds(table.reference.to_numpy(object), table.blocks, Validation(), seed=1)
    found = cross_validate(table, folds, make_choice(), Validation(resamples=100), seed=1)
    decided = TARGET.decide(found.predictions, table.levels)
    right = decided == samples["class_name"].to_numpy()
    assert table.weights is not None
    expected = np.average(right, weights=table.weights)
    assert found.scores["overall_accuracy"].value == pytest.approx(expected)
    assert found.as_drawn["overall_accuracy"] == pytest.approx(right.mean())
    assert found.sums.sum() == pytest.approx(table.weights.sum())


def test_model_learns_the_shares_of_the_labels() -> None:
    """Of pixels that tell nothing, nearly all are forest."""
    table, _ = balanced()
    noise = pd.DataFrame({"noise": np.random.default_rng(0).normal(size=len(table.reference))})
    for name in ("random_forest", "lightgbm", "mlp"):
        parameters = {"random_forest": {"min_samples_leaf": 100}, "mlp": {"max_iter": 100}}
        model = fit(
            make_choice(name, **parameters.get(name, {})).make(),
            noise,
            table.reference,
            table.learning_weights,
        )
        assert takes_weights(model)
        shares = model.predict_proba(noise).mean(axis=0)
        used = table.reference.value_counts().reindex(table.levels)
        expected = used * [STANDS_FOR[level] for level in table.levels]
        assert shares == pytest.approx((expected / expected.sum()).to_numpy(), abs=0.08), name


def test_model_that_takes_no_weights_is_fitted_without() -> None:
    class Plain(LogisticRegression):
        def fit(self, X: object, y: object) -> Plain:
            return super().fit(X, y)

    table, _ = balanced()
    model = fit(Plain(), table.features, table.reference, table.learning_weights)
    assert not takes_weights(model)
    [told] = remarks_on(model, "plain", table.learning_weights)
    assert "[model] plain takes no sample_weight" in told
    assert remarks_on(model, "plain", None) == []
    assert (model.coef_ == LogisticRegression().fit(table.features, table.reference).coef_).all()


@pytest.mark.parametrize(("rounds", "told"), [(2, True), (3000, False)])
def test_network_that_had_not_converged_is_told(rounds: int, told: bool) -> None:
    table, _ = balanced()
    choice = make_choice("mlp", hidden_layer_sizes=[2], max_iter=rounds)
    with one_thread():
        model = fit(choice.make(), table.features, table.reference)
    found = remarks_on(model, "mlp", None)
    assert any(f"had not converged after {rounds} rounds" in text for text in found) == told
