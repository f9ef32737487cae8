from collections.abc import Mapping

import matplotlib.pyplot as plt

from .figures import save_figure

__all__ = ["draw_severity_curves"]

# Okabe and Ito's colours, which colour-blind readers can tell apart; the markers differ as well.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^DvPX"


def draw_severity_curves(path: str, groups: Mapping[str, Mapping[str, Mapping[int, float]]], metric: str) -> None:
    """Draws a metric against the severity of corruptions, a panel for each group of them and a line for each model.

    Args:
        path: PNG file.
        groups: map from group to model to severity to value; severity 0 is the clean image.
        metric: its name.
    """
    figure, axes = plt.subplots(
        1, len(groups), figsize=(2.8 * len(groups) + 0.6, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (group, models) in zip(axes[0], groups.items()):
        for i, (name, values) in enumerate(models.items()):
            style = dict(color=COLORS[i % len(COLORS)], marker=MARKERS[i % len(MARKERS)], label=name)
            axis.plot(list(values), list(values.values()), **style)
        axis.set(title=group, xlabel="severity", ylim=(0, None), xticks=sorted({s for v in models.values() for s in v}))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(metric)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    save_figure(figure, path)
