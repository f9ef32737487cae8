import matplotlib.pyplot as plt
from cankd.utils import replace_file
from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ["save_figure", "take_texts_literally"]


def take_texts_literally(figure: Figure) -> None:
    """Shows a figure's texts as they are: a name such as "a$b$" is not mathematics.

    Args:
        figure: is changed in place, once all texts are there.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)


def save_figure(figure: Figure, path: str) -> None:
    """Saves a figure as PNG, whole or not at all, and closes it. Its texts are taken literally.

    Args:
        figure: of pyplot.
        path: PNG file.

    Raises:
        UserError: if the disk is full.
    """
    take_texts_literally(figure)
    try:
        with replace_file(path) as f:
            figure.savefig(f, format="png", dpi=150)
    finally:
        plt.close(figure)
