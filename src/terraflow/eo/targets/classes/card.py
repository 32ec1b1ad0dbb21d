"""What the model card tells of classes."""

from __future__ import annotations

import numpy as np

from terraflow.eo.targets.parts import Card, Evaluation, markdown_table

__all__ = ["class_card"]

_CONFUSIONS = 3


def class_card(evaluation: Evaluation) -> Card:
    """Write what is learnt, the scores and the most frequent confusions as Markdown."""
    classes, scores = evaluation.levels, evaluation.scores
    whole = (
        (label, scores[name].text(), f"{evaluation.at_random[name]:.3f}")
        for label, name in (("overall accuracy", "overall_accuracy"), ("macro F1", "macro_f1"))
    )
    keys = ("users_accuracy", "producers_accuracy", "f1")
    rows = ((name, *(scores[f"{key}_{name}"].text() for key in keys)) for name in classes)
    text = "\n\n".join(
        [
            markdown_table(("", "spatial blocks (95 % interval)", "at random"), whole),
            markdown_table(("class", "user's accuracy", "producer's accuracy", "F1"), rows),
            _confusions(evaluation),
            "![Confusion matrix](confusion.png)",
            "![User's over producer's accuracy of each class](class_curves.png)",
        ]
    )
    return Card(
        purpose=f"It gives each pixel one of {len(classes)} classes ({', '.join(classes)}).",
        scores=text,
        limits=[
            "A pixel that belongs to none of the classes gets one of them all the same.",
            "Scores hold for the labelled pixels, whose class shares are not those of the area; "
            "the step report estimates areas and their intervals.",
        ],
    )


def _confusions(evaluation: Evaluation) -> str:
    matrix, classes = evaluation.sums, evaluation.levels
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    places = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    told = [
        f"{wrong[i, j]} of {matrix[i].sum()} pixels of {classes[i]} were taken for {classes[j]}"
        for i, j in places
    ]
    return f"Most often confused: {'; '.join(told)}." if told else "No held-out pixel was wrong."
