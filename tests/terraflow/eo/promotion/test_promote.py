from __future__ import annotations

import getpass
import threading
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities.model_registry import ModelVersion

from samples import make_report
from terraflow.eo.built_in import Classification
from terraflow.eo.promotion.gate import Verdict, judge
from terraflow.eo.promotion.promote import (
    Approval,
    Decision,
    consider,
    promote_by_hand,
    settle,
)
from terraflow.errors import ConfigError, ServiceError
from terraflow.settings import Settings
from terraflow.tracking import registry
from terraflow.tracking import runs as tracking

TRUTH = "ab" * 20


def predictions(predicted: str, reference: str = TRUTH) -> pd.DataFrame:
    """Twenty blocks of two pixels."""
    places = np.arange(len(predicted))
    return pd.DataFrame(
        {
            "x": places + 0.5,
            "y": 0.5,
            "block": places // 2,
            "class_name": list(reference),
            "predicted": list(predicted),
        }
    )


@dataclass
class Models:
    """Versions of one registered model, each with what `train` logs for the comparison."""

    settings: Settings
    name: str
    folder: Path

    def add(
        self,
        predicted: str,
        *,
        simulated: bool = False,
        crs: str = "EPSG:32633",
        params: dict[str, int] | None = None,
        **other: str,
    ) -> str:
        """Register a version whose held-out predictions are these letters; return its run."""
        tags = {"simulated": str(simulated).lower()}
        with tracking.start_run(self.settings, self.name, name="train", tags=tags) as run:
            path = self.folder / "predictions.parquet"
            predictions(predicted, **other).to_parquet(path)
            mlflow.log_artifact(str(path))
            mlflow.log_params(params or {})
            report = make_report(predictions(predicted), grid={"crs": crs})
            mlflow.log_dict(report.to_dict(), "data_report.json")
        self.register(run.info.run_id)
        return str(run.info.run_id)

    def register(self, run_id: str) -> None:
        client = mlflow.MlflowClient()
        if not client.search_registered_models(f"name = '{self.name}'"):
            client.create_registered_model(self.name)
        client.create_model_version(self.name, f"runs:/{run_id}/model", run_id)

    def consider(self, version: str) -> Decision:
        return consider(self.settings, self.name, version, Classification())

    def version(self, version: str) -> ModelVersion:
        return mlflow.MlflowClient().get_model_version(self.name, version)

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.version(version).tags)

    def champion(self) -> str:
        found = registry.find_by_alias(self.name, "champion")
        return str(found.version) if found else ""


@pytest.fixture
def models(tracked_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Models:
    return Models(tracked_settings, request.node.name[:200], tmp_path)


def test_consider_first_version_becomes_champion(models: Models) -> None:
    models.add("aa" * 20)
    decision = models.consider("1")
    assert decision.promoted
    assert models.champion() == "1"
    tags = models.tags("1")
    assert tags["promotion"] == "promoted"
    assert tags["promotion_reason"] == decision.reason
    assert "had no champion before version 1" in decision.reason


def test_judge_shows_what_a_probability_sample_of_a_map_told(models: Models) -> None:
    run_id = models.add("aa" * 20)
    models.consider("1")
    models.add(TRUTH)
    mlflow.MlflowClient().log_metric(run_id, "sample_overall_accuracy", 0.81)
    verdict = judge(models.name, "2", Classification())
    assert verdict.scores["sample_overall_accuracy"] == (None, 0.81)
    assert "sample_macro_f1" not in verdict.scores


def test_consider_better_version_replaces_the_champion_and_both_say_so(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    models.add(TRUTH)
    decision = models.consider("2")
    assert decision.promoted
    assert models.champion() == "2"
    tags = models.tags("2")
    assert tags["promotion"] == "promoted"
    assert tags["promotion_champion_before"] == "1"
    assert float(tags["promotion_difference"]) == pytest.approx(2 / 3, abs=1e-6)
    assert float(tags["promotion_difference_low"]) == pytest.approx(2 / 3, abs=1e-6)
    assert (tags["promotion_pixels"], tags["promotion_blocks"]) == ("40", "20")
    assert "+0.6667 (95 % interval +0.6667 to +0.6667) on 40 pixels in 20" in decision.reason
    assert models.tags("1")["promotion"].startswith("replaced by version 2 at 20")


def test_consider_equal_version_is_not_promoted_and_says_why(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    models.add("aa" * 20)
    decision = models.consider("2")
    assert not decision.promoted
    assert models.champion() == "1"
    tags = models.tags("2")
    assert (tags["promotion"], tags["promotion_difference"]) == ("not promoted", "0.000000")
    assert tags["promotion_reason"] == decision.reason
    assert decision.reason.startswith("Not better beyond chance")
    assert models.tags("1")["promotion"] == "promoted"


def test_consider_better_in_one_block_only_is_not_promoted(models: Models) -> None:
    models.add("ba" + "ab" * 19)
    models.consider("1")
    models.add(TRUTH)
    assert not models.consider("2").promoted
    tags = models.tags("2")
    assert float(tags["promotion_difference"]) > 0
    assert float(tags["promotion_difference_low"]) < 0
    assert models.champion() == "1"


def test_consider_the_champion_itself_changes_nothing(models: Models) -> None:
    models.add(TRUTH)
    models.consider("1")
    before = models.tags("1")
    decision = models.consider("1")
    assert not decision.promoted
    assert "is the champion already" in decision.reason
    assert models.tags("1") == before


def test_consider_simulated_data_never_replace_measured_data(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    run_id = models.add(TRUTH, simulated=True)
    decision = models.consider("2")
    assert not decision.promoted
    assert models.champion() == "1"
    assert "it was trained on simulated data, the champion on measured data" in decision.reason
    assert f"`invoke promote --run-id {run_id}`" in decision.reason
    assert models.tags("2")["promotion_reason"] == decision.reason


def test_consider_measured_data_replace_simulated_data(models: Models) -> None:
    models.add(TRUTH, simulated=True)
    models.consider("1")
    models.add("aa" * 20)
    decision = models.consider("2")
    assert decision.promoted
    assert models.champion() == "2"
    assert "version 1, on simulated data" in decision.reason


def test_consider_other_crs_is_not_compared(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    models.add(TRUTH, crs="EPSG:32634")
    decision = models.consider("2")
    assert not decision.promoted
    assert "its grid is in EPSG:32634, the champion's in EPSG:32633" in decision.reason


def test_consider_other_gap_is_not_compared(models: Models) -> None:
    models.add("aa" * 20, params={"gap_px": 4})
    models.consider("1")
    models.add(TRUTH)
    decision = models.consider("2")
    assert not decision.promoted
    assert "with a gap of 0 px, the champion with one of 4 px" in decision.reason


@pytest.mark.parametrize(
    ("predicted", "trials", "expected"),
    [
        (TRUTH, 30, "Better after a search of 30 trials, comparing"),
        ("aa" * 20, 30, "Not better beyond chance after a search of 30 trials, comparing"),
        (TRUTH, 1, "Better, comparing"),
    ],
)
def test_consider_tuned_version_names_the_search(
    models: Models, predicted: str, trials: int, expected: str
) -> None:
    models.add("aa" * 20)
    models.consider("1")
    models.add(predicted, params={"tuned_trials": trials})
    assert models.consider("2").reason.startswith(expected)


def test_consider_other_classes_are_not_compared(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    models.add("ac" * 20, reference="ac" * 20)
    decision = models.consider("2")
    assert not decision.promoted
    assert "it tells a, c apart, the champion a, b" in decision.reason
    assert models.tags("2")["promotion"] == "not promoted"


def test_consider_champion_without_predictions_is_not_compared(models: Models) -> None:
    with tracking.start_run(models.settings, models.name, name="bare", tags={}) as run:
        pass
    models.register(run.info.run_id)
    models.consider("1")
    models.add(TRUTH)
    decision = models.consider("2")
    assert not decision.promoted
    assert "the run of version 1 has no predictions.parquet" in decision.reason


def test_consider_champion_whose_run_is_gone_is_not_compared(models: Models) -> None:
    mlflow.set_tracking_uri(models.settings.mlflow_url)
    models.register("0" * 32)
    models.consider("1")
    models.add(TRUTH)
    decision = models.consider("2")
    assert not decision.promoted
    assert "the run of version 1 is gone" in decision.reason


def test_consider_after_the_champion_was_deleted_promotes(models: Models) -> None:
    models.add(TRUTH)
    models.consider("1")
    mlflow.MlflowClient().delete_model_version(models.name, "1")
    models.add("aa" * 20)
    assert models.consider("2").promoted
    assert models.champion() == "2"


def test_consider_two_at_once_leaves_the_better_one(models: Models) -> None:
    for predicted in ("aa" * 20, TRUTH, "aa" * 10 + "ab" * 10):
        models.add(predicted)
    models.consider("1")
    decisions: dict[str, Decision] = {}

    def work(version: str) -> None:
        decisions[version] = models.consider(version)

    threads = [threading.Thread(target=work, args=(version,)) for version in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert models.champion() == "2"
    assert decisions["2"].promoted
    if not decisions["3"].promoted:  # it came second, and was compared with version 2
        assert models.tags("3")["promotion_champion_before"] == "2"


def test_consider_without_mlflow_says_how_to_start_it(settings: Settings) -> None:
    closed = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"port": 1})})
    with pytest.raises(ServiceError, match="MLflow does not answer"):
        consider(closed, "any", "1", Classification())


def test_promote_by_hand_moves_the_alias_and_says_by_whom(models: Models) -> None:
    models.add(TRUTH)
    models.consider("1")
    run_id = models.add("aa" * 20)
    models.consider("2")
    decision = promote_by_hand(models.settings, run_id)
    assert decision.promoted
    assert models.champion() == "2"
    tags = models.tags("2")
    assert tags["promotion"] == "promoted by hand"
    assert tags["promotion_by"] == getpass.getuser()
    assert tags["promotion_reason"] == decision.reason
    assert "by hand; before it was version 1" in decision.reason
    assert float(tags["promotion_difference"]) < 0  # the comparison before stays on record
    assert models.tags("1")["promotion"].startswith("replaced by version 2")
    assert not promote_by_hand(models.settings, run_id).promoted


def test_promote_by_hand_of_a_run_without_a_version_is_refused(models: Models) -> None:
    with tracking.start_run(models.settings, models.name, name="bare", tags={}) as run:
        pass
    with pytest.raises(ConfigError, match="registered no model version; name a run that"):
        promote_by_hand(models.settings, run.info.run_id)


def test_promote_by_hand_of_an_unknown_run_lists_the_latest(models: Models) -> None:
    run_id = models.add(TRUTH)
    with pytest.raises(ConfigError, match=f"There is no run 'nope'.*{run_id}"):
        promote_by_hand(models.settings, "nope")


def judged(models: Models, version: str) -> Verdict:
    with registry.connected(models.settings):
        return judge(models.name, version, Classification())


def test_judge_changes_nothing_and_tells_both_scores(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    run_id = models.add(TRUTH)
    mlflow.MlflowClient().log_metric(run_id, "macro_f1", 1.0)
    verdict = judged(models, "2")
    assert verdict.promote
    assert (verdict.version, verdict.champion) == ("2", "1")
    assert verdict.scores["macro_f1"] == (1.0, None)
    assert models.champion() == "1"
    assert "promotion" not in models.tags("2")


def settle_as(models: Models, verdict: Verdict, approval: Approval | None = None) -> Decision:
    return settle(models.settings, verdict, Classification(), approval=approval)


def test_settle_twice_is_as_once(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    models.add(TRUTH)
    verdict = judged(models, "2")
    decisions = [settle_as(models, verdict) for _ in range(2)]
    assert decisions[0] == decisions[1]
    assert decisions[0].promoted
    assert models.tags("2")["promotion_champion_before"] == "1"
    assert models.tags("1")["promotion"].startswith("replaced by version 2")


def test_settle_after_the_champion_changed_compares_anew(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    models.add("aa" * 10 + "ab" * 10)
    models.add(TRUTH)
    verdict = judged(models, "2")
    assert verdict.promote
    models.consider("3")
    decision = settle_as(models, verdict)
    assert not decision.promoted
    assert "with the champion, version 3" in decision.reason
    assert models.champion() == "3"


@pytest.mark.parametrize(("approved", "state"), [(True, "promoted"), (False, "rejected")])
def test_settle_writes_what_a_person_said(approved: bool, state: str, models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    models.add(TRUTH)
    approval = Approval(approved=approved, by="ann", reason="Looks right.")
    decision = settle_as(models, judged(models, "2"), approval)
    tags = models.tags("2")
    assert decision.promoted is approved
    assert tags["promotion"] == state
    assert tags["promotion_by"] == "ann"
    said = "approved" if approved else "rejected"
    assert tags["promotion_reason"].startswith(f"ann {said} version 2: Looks right. Better, compar")
    assert models.champion() == ("2" if approved else "1")


def test_settle_approval_of_another_comparison_does_not_count(models: Models) -> None:
    models.add("aa" * 20)
    models.consider("1")
    run_id = models.add(TRUTH)
    verdict = judged(models, "2")
    other = models.add("aa" * 10 + "ab" * 10)
    promote_by_hand(models.settings, other)
    decision = settle_as(models, verdict, Approval(approved=True, by="ann"))
    assert not decision.promoted
    assert "changed from version 1 to 3 while version 2 waited for ann" in decision.reason
    assert run_id in decision.reason
    assert models.champion() == "3"
