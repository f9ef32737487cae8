"""Modules by level."""

from torch import nn

__all__ = ["LevelDict"]


class LevelDict(nn.ModuleDict):
    """A :class:`torch.nn.ModuleDict` whose keys are names of levels, such as "p3" or "backbone.net.blocks.0".

    A module's name admits no dot, so "/" stands for it in the state dict.
    """

    def __getitem__(self, level: str) -> nn.Module:
        return super().__getitem__(_module_name(level))

    def __setitem__(self, level: str, module: nn.Module) -> None:
        super().__setitem__(_module_name(level), module)

    def __contains__(self, level: str) -> bool:
        return super().__contains__(_module_name(level))


def _module_name(level):
    return level.replace(".", "/")
