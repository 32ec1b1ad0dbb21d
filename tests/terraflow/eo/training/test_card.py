from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from area import make_project
from samples import make_report, make_samples
from terraflow.eo.built_in import Classification
from terraflow.eo.config.project_file import ProjectConfig
from terraflow.eo.models.choice import choose_model
from terraflow.eo.samples.preprocess import Prepared
from terraflow.eo.targets.parts import Evaluation, Score
from terraflow.eo.training.card import model_card
from terraflow.eo.training.tuning import Tuning

INPUTS = Prepared(
    items="s3://eo data/collection.json",
    labels="s3://eo/labels.gpkg",
    samples="",
    population="",
    report="",
)


def evaluation() -> Evaluation:
    names = ["forest", "rock | ice"]
    row = {
        "users_accuracy": Score(0.81, 0.7, 0.9),
        "producers_accuracy": Score(0.62, 0.5, 0.7),
        "f1": Score(0.7, 0.6, 0.8),
    }
    return Evaluation(
        levels=names,
        scores={
            "overall_accuracy": Score(0.912, 0.881, 0.934),
            "macro_f1": Score(0.701, 0.65, 0.75),
            **{f"{key}_{name}": score for name in names for key, score in row.items()},
        },
        at_random={"overall_accuracy": 0.967, "macro_f1": 0.902},
        sums=np.array([[90, 10], [4, 36]]),
        predictions=np.zeros((0, 2)),
        importance={},
    )


def test_card_tells_of_labels_that_are_not_kept_whole() -> None:
    told = "37 of them lie in no polygon: they are points, or in patches of a raster that are too"
    assert told in card(in_no_polygon=37)
    assert "lie in no polygon" not in card()
    cut = make_project(validation={"whole_polygons": False})
    assert "lie in no polygon" not in card(cut, in_no_polygon=37)


def card(project: ProjectConfig | None = None, **changes: Any) -> str:
    counts = {"forest": 1234, "rock | ice": 40}
    tuning = changes.pop("tuning", None)
    report = make_report(make_samples(), **({"label_counts": counts} | changes))
    config = project or make_project(
        model={"name": "random_forest", "parameters": {"n_estimators": 7}}
    )
    return model_card(
        config,
        report,
        evaluation(),
        INPUTS,
        target=Classification(),
        choice=choose_model(config.model, {}, seed=config.seed),
        used={"forest": 100, "rock | ice": 40},
        run_id="f00d",
        provenance={"code_commit": "c0ffee", "lock_digest": "10c4", "data_digest": "da7a"},
        tuning=tuning,
    )


@pytest.mark.parametrize(
    "line",
    [
        "one of 2 classes (forest, rock | ice). It takes 4 features",
        "random_forest (n_estimators 7, min_samples_leaf 2)",
        "| Dates | 2024-01-01 to 2024-12-31 |",
        "| Area | west 500000, south 5099960, east 500600, north 5100000 in EPSG:32633 |",
        "| Grid | 60 x 4 pixels of 10 x 10 units of the CRS |",
        "| forest | 1234 | 100 |",
        r"| rock \| ice | 40 | 40 |",
        "| 2024-04 | 81% |",
        "ndvi_2024-04, ndvi_2024-05, ndvi_max, noise",
        "squares of 4 x 4 pixels, and these blocks into 2 folds",
        "| overall accuracy | 0.912 (0.881 to 0.934) | 0.967 |",
        "| macro F1 | 0.701 (0.650 to 0.750) | 0.902 |",
        "| forest | 0.810 (0.700 to 0.900) | 0.620 (0.500 to 0.700) | 0.700 (0.600 to 0.800) |",
        "10 of 100 labelled pixels of forest were taken for rock | ice; 4 of 40 labelled pixels of",
        "![Confusion matrix](confusion.png)",
        "invoke map --model runs:/f00d/model --items 's3://eo data/collection.json'",
        "invoke serve --run-id f00d",
        "| Code commit | c0ffee |",
        "| Digest of requirements.lock | 10c4 |",
        "| Data digest | da7a |",
        "| Seed | 42 |",
    ],
)
def test_model_card_tells(line: str) -> None:
    assert line in card()


def test_model_card_tables_have_as_many_cells_in_every_row() -> None:
    tables = re.findall(r"(?:^\|.*\n)+", card(), re.MULTILINE)
    assert len(tables) == 6
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_model_card_simulated_data_are_told_first_and_only_then() -> None:
    assert card(simulated=True).splitlines()[2].startswith("> **Trained on simulated data, not")
    assert "imulated" not in card().replace("| simulated", "")


def test_model_card_tells_whether_polygons_were_cut() -> None:
    assert "All pixels of a polygon took the block that holds a point within it" in card()
    cut = make_project(model={}, validation={"whole_polygons": False})
    assert "Blocks may cut polygons" in card(cut)


def test_model_card_tuned_scores_are_told_to_be_optimistic() -> None:
    project = make_project(model={})
    choice = choose_model(project.model, {}, seed=1)
    tuning = Tuning(choice, [choice] * 2, trials=30, best=0.7011, corrected=0.6834)
    text = card(tuning=tuning)
    assert "best of 30 trials" in text
    assert "macro F1 of 0.701 is optimistic: it becomes 0.683" in text
    assert "with the parameters that were best on the other half" in text
    assert "still be somewhat optimistic" in text
    assert "trials" not in card()


@pytest.mark.parametrize(
    ("gap_px", "sides", "told", "not_told"),
    [
        (0, [], "beside a pixel tested, across the edge of a block, were kept", "reach"),
        (4, [], "at most 4 columns and rows from a pixel tested were left out", "reach"),
        (4, [3, 9], "at most 4 columns and rows from a pixel tested were left out", "reach"),
        (3, [3, 9], "reach 4 pixels, farther than this gap of 3", "were kept"),
        (0, [3], "reach 1 pixels, farther than this gap of 0", "left out"),
    ],
)
def test_model_card_tells_the_gap_and_whether_neighbourhoods_reach_over_it(
    gap_px: int, sides: list[int], told: str, not_told: str
) -> None:
    project = make_project(
        model={}, features={"neighbourhood": sides}, validation={"gap_px": gap_px}
    )
    text = card(project).partition("## How it was validated")[2].partition("## Scores")[0]
    assert told in text
    assert not_told not in text


def test_model_card_periods_that_stand_in_are_told_only_where_there_are_others() -> None:
    assert "neighbouring periods stand in" in card()
    assert "neighbouring periods" not in card(periods=["all"])
