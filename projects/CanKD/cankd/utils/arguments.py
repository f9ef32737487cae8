import argparse
import os
import re
from typing import Any

from .errors import UserError

__all__ = [
    "ConfigArgumentParser",
    "OverridesArgumentParser",
    "PictureArgumentParser",
    "add_model_arguments",
    "image_size",
    "model_arguments",
    "named_path",
]


def add_model_arguments(parser: argparse.ArgumentParser, *, methods: bool = True) -> None:
    """Adds the options that put a teacher beside the student that ``--config-file`` describes.

    Args:
        parser: is changed in place.
        methods: whether one method is chosen, by ``--method`` and ``--inherit``.
    """
    group = parser.add_argument_group("your own models: --config-file is the student's, any config of Detectron2's")
    help = "Python file that registers data sets, for yacs configs, which cannot"
    group.add_argument("--datasets", default="", metavar="FILE", help=help)
    help = "config of the teacher: a LazyConfig, a yacs config, or a name of Detectron2's model zoo"
    group.add_argument("--teacher", default="", metavar="CONFIG", help=help)
    group.add_argument("--teacher-weights", default="", metavar="FILE", help="its checkpoint, or a URL")
    if methods:
        help = "how the student learns, for example pkd, cankd+kd, alone, or a file of search_distiller.py "
        help += "(default: that of the config; cankd beside --teacher)"
        group.add_argument("--method", metavar="NAME", help=help)
        help = "start the student's neck and head from the teacher's weights, as far as they fit (the paper's †)"
        group.add_argument("--inherit", action="store_true", help=help)


def model_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of :func:`add_model_arguments` as :func:`cankd.engine.load_config` takes them.

    Raises:
        UserError: if one lacks another that it needs.
    """
    if bool(args.teacher) != bool(args.teacher_weights):
        raise UserError("a teacher needs both, its config and its checkpoint: --teacher CONFIG --teacher-weights FILE")
    chosen = {"teacher": args.teacher, "weights": args.teacher_weights} if args.teacher else {}
    how = {name: value for name in ("method", "inherit") if (value := getattr(args, name, None))}
    return {"datasets": args.datasets, **chosen, **how}


def named_path(text: str) -> tuple[str, str]:
    """Splits NAME=PATH of a command line; the last part of a path alone is its name. What exists is a path alone."""
    name, separator, path = text.partition("=")
    is_named = separator and not os.path.exists(text)
    return (name, path) if is_named else (os.path.basename(os.path.normpath(text)), text)


def image_size(text: str) -> tuple[int, int]:
    """Reads HEIGHTxWIDTH of a command line, in pixels."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 800x1344")
    height, width = map(int, text.split("x"))
    return height, width


def _names(text):
    return text.split(",")


class OverridesArgumentParser(argparse.ArgumentParser):
    """Command line of the tools that take overrides of a config: before, between and behind the options."""

    def __init__(self, description: str, *, help: str = "options of the config, key=value"):
        """
        Args:
            description: the tool's docstring.
            help: for the overrides, which become ``opts``.
        """
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("opts", nargs="*", help=help)

    def parse_args(self, args=None, namespace=None):
        """See :meth:`argparse.ArgumentParser.parse_args`."""
        return self.parse_intermixed_args(args, namespace)


class ConfigArgumentParser(OverridesArgumentParser):
    """Command line of the tools that read a config: it, the options of :func:`add_model_arguments`, overrides."""

    def __init__(self, description: str, *, config: str = "of a distillation, or of one model", methods: bool = True):
        """
        Args:
            description: the tool's docstring.
            config: help for ``--config-file``.
            methods: whether one method is chosen, by ``--method`` and ``--inherit``.
        """
        super().__init__(description, help="options of the config, key=value, for example train.init_checkpoint=FILE")
        self.add_argument("--config-file", required=True, metavar="FILE", help=config)
        add_model_arguments(self, methods=methods)


class PictureArgumentParser(ConfigArgumentParser):
    """Command line of the tools that show models at work on images."""

    def __init__(self, description: str, *, images: int = 4, baseline: bool = True, levels: bool = True):
        """
        Args:
            description: the tool's docstring.
            images: default of ``--images``.
            baseline: whether the tool takes a baseline's checkpoint, too.
            levels: whether the tool takes levels.
        """
        super().__init__(description)
        if levels:
            help = "of the student (default: those that are distilled)"
            self.add_argument("--levels", type=_names, default=(), metavar="LEVEL,…", help=help)
        if baseline:
            self.add_argument("--baseline", default="", metavar="FILE", help="checkpoint of the student trained alone")
        self.add_argument("--input", nargs="+", default=[], metavar="PATH", help="images, or folders of images")
        self.add_argument("--images", type=int, default=images, help="how many of the test set, without --input")

    def parse_args(self, args=None, namespace=None):
        """See :meth:`argparse.ArgumentParser.parse_args`. Overrides may follow ``--input``, too."""
        parsed = super().parse_args(args, namespace)
        overrides = [entry for entry in parsed.input if "=" in entry and not os.path.exists(entry)]
        parsed.opts = [*parsed.opts, *overrides]
        parsed.input = [entry for entry in parsed.input if entry not in overrides]
        return parsed
