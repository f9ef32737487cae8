import matplotlib.pyplot as plt
from cankd.utils import replace_file
from matplotlib.figure import Figure

__all__ = ["save_figure"]


def save_figure(figure: Figure, path: str) -> None:
    """Saves a figure as PNG, whole or not at all, and closes it.

    Args:
        figure: of pyplot.
        path: PNG file.

    Raises:
        UserError: if the disk is full.
    """
    try:
        with replace_file(path) as f:
            figure.savefig(f, format="png", dpi=150)
    finally:
        plt.close(figure)
