"""What the model card tells of classes."""

from __future__ import annotations

import numpy as np

from terraflow.console import command
from terraflow.eo.targets.parts import Card, Evaluation, markdown_table, score_table

__all__ = ["class_card"]

_CONFUSIONS = 3


def class_card(evaluation: Evaluation) -> Card:
    """Write what is learnt, the scores and the most frequent confusions as Markdown."""
    classes, scores = evaluation.levels, evaluation.scores
    whole = {"overall_accuracy": "overall accuracy", "macro_f1": "macro F1"}
    keys = ("users_accuracy", "producers_accuracy", "f1")
    rows = ((name, *(scores[f"{key}_{name}"].text() for key in keys)) for name in classes)
    text = "\n\n".join(
        [
            score_table(evaluation, whole),
            "Of each class, for labelled pixels, with blocks held out (95 % interval):",
            markdown_table(("class", "user's accuracy", "producer's accuracy", "F1"), rows),
            _confusions(evaluation),
            _sureness(evaluation),
            "![Confusion matrix](confusion.png)",
            "![User's over producer's accuracy of each class](class_curves.png)",
            "![How often predictions of some confidence are right](reliability.png)",
        ]
    )
    return Card(
        purpose=f"It gives each pixel one of {len(classes)} classes ({', '.join(classes)}).",
        scores=text,
        limits=[
            "A pixel that belongs to none of the classes gets one of them all the same.",
            "Scores hold for the labelled pixels, which somebody chose, and whose class shares are "
            "not those of the area.",
            "Areas that are counted from its maps hold the maps' errors. Do not publish them: "
            f"`{command('validate', 'draw')}` draws a sample that tells areas with intervals.",
        ],
    )


def _confusions(evaluation: Evaluation) -> str:
    matrix, classes = evaluation.sums, evaluation.levels
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    places = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    told = [
        f"{wrong[i, j]:.0f} of {matrix[i].sum():.0f} labelled pixels of {classes[i]} were taken "
        f"for {classes[j]}"
        for i, j in places
    ]
    return f"Most often confused: {'; '.join(told)}." if told else "No held-out pixel was wrong."


def _sureness(evaluation: Evaluation) -> str:
    """Tell what a confidence and a set of classes are worth."""
    known = evaluation.calibration
    if known.error is None or known.error_before is None or known.coverage is None:
        return ""
    curve = (
        "they are those of the model itself"
        if known.method == "none"
        else f"a curve ({known.method}) that held-out pixels gave makes them so, and without it "
        f"they would be {100 * known.error_before:.1f} per cent off"
    )
    return (
        f"Confidences of a map are {100 * known.error:.1f} per cent off on average (expected "
        f"calibration error, of labelled pixels in blocks held out): {curve}. Sets of classes that "
        f"are meant to hold the true one in at least 90 % hold it in {known.coverage:.0%} of "
        "labelled pixels of blocks that had no part in making them."
    )
