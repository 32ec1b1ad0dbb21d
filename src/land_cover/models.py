"""A model of this project's own, beside those that the platform brings."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import ExtraTreesClassifier, VotingClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["trees_and_network"]


def trees_and_network(*, random_state: int | None = None, **parameters: Any) -> VotingClassifier:
    """Make a soft vote of extremely randomised trees with balanced classes and a small network.

    A stored model holds scikit-learn's classes only, so that loading it does not need this module.

    Parameters
    ----------
    random_state : int, optional
        The same seed and data give the same model.
    **parameters
        Of the members or the vote: trees__n_estimators, network__mlpclassifier__alpha, weights.

    Raises
    ------
    ValueError
        There is no such parameter.

    References
    ----------
    Geurts et al. 2006, doi:10.1007/s10994-006-6226-1, on the trees.
    """
    trees = ExtraTreesClassifier(200, min_samples_leaf=2, class_weight="balanced", n_jobs=1)
    network = make_pipeline(StandardScaler(), MLPClassifier((64,), alpha=1.0, max_iter=300))
    vote = VotingClassifier([("trees", trees), ("network", network)], voting="soft", n_jobs=1)
    seeds = ("trees__random_state", "network__mlpclassifier__random_state")
    return vote.set_params(**dict.fromkeys(seeds, random_state) | parameters)
