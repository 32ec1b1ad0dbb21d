from __future__ import annotations

from terraflow.eo.training.run_record import importance_figure


def test_importance_figure_shows_the_greatest_first_and_no_more_than_asked() -> None:
    losses = {f"f{i:02}": i / 100 for i in range(30)}
    axes = importance_figure(losses, "macro F1", "", most=3).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["f29", "f28", "f27"]
    assert [bar.get_width() for bar in axes.patches] == [0.29, 0.28, 0.27]
    assert axes.yaxis_inverted()
    assert "3 of 30 features" in axes.get_title()
