import argparse
import os

__all__ = ["PictureArgumentParser", "named_path"]


def named_path(text: str) -> tuple[str, str]:
    """Splits NAME=PATH of a command line; the last part of a path alone is its name."""
    name, separator, path = text.partition("=")
    return (name, path) if separator else (os.path.basename(os.path.normpath(text)), text)


class PictureArgumentParser(argparse.ArgumentParser):
    """Command line of the tools that show models at work on images: config, checkpoints, images, overrides."""

    def __init__(self, description: str, *, images: int = 4, baseline: bool = True):
        """
        Args:
            description: the tool's docstring.
            images: default of ``--images``.
            baseline: whether the tool takes a baseline's checkpoint, too.
        """
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--config-file", required=True, metavar="FILE", help="of a distillation, or of one model")
        if baseline:
            self.add_argument("--baseline", default="", metavar="FILE", help="checkpoint of the student trained alone")
        self.add_argument("--input", nargs="+", default=[], metavar="PATH", help="images, or folders of images")
        self.add_argument("--images", type=int, default=images, help="how many of the test set, without --input")
        self.add_argument("opts", nargs="*", help="options of the config, key=value; train.init_checkpoint among them")

    def parse_args(self, args=None, namespace=None):
        """See :meth:`argparse.ArgumentParser.parse_args`. Overrides may follow ``--input``."""
        parsed = super().parse_args(args, namespace)
        overrides = [entry for entry in parsed.input if "=" in entry and not os.path.exists(entry)]
        parsed.opts = [*parsed.opts, *overrides]
        parsed.input = [entry for entry in parsed.input if entry not in overrides]
        return parsed
