import contextlib
import os

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

__all__ = ["save_figure"]


def save_figure(figure: Figure, path: str) -> None:
    """Saves a figure as PNG, whole or not at all, and closes it.

    Args:
        figure: of pyplot.
        path: PNG file.
    """
    unfinished = f"{path}.unfinished"
    try:
        figure.savefig(unfinished, format="png", dpi=150)
        os.replace(unfinished, path)
    finally:
        plt.close(figure)
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)
