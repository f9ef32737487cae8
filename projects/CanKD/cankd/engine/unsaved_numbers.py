from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["UnsavedNumbers"]


class UnsavedNumbers:
    """Numbers that modules change while they train, and that are not in their state dict.

    RetinaNet and FCOS keep the running normaliser of their loss so. These are attributes that are numbers or tensors of
    one element, and buffers that are not persistent. Those that training leaves alone are the config's, and not saved.
    """

    def __init__(self, model: nn.Module):
        """
        Args:
            model: before it trains.
        """
        self._model = model
        self._initial = {key: _copy(value) for key, value in self._read()}

    def _read(self) -> Iterator[tuple]:
        for name, module in self._model.named_modules():
            attributes = {key: value for key, value in vars(module).items() if key != "training" and _is_number(value)}
            buffers = {key: module.get_buffer(key) for key in module._non_persistent_buffers_set}
            for attribute, value in (attributes | buffers).items():
                if value is not None:
                    yield (name, attribute), value

    def state_dict(self) -> dict[tuple[str, str], int | float | Tensor]:
        """Returns what has changed, by the names of module and attribute."""
        now = {key: _copy(value) for key, value in self._read()}
        return {key: value for key, value in now.items() if not _is_same(value, self._initial.get(key))}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[tuple[str, str], int | float | Tensor]) -> None:
        """Sets what had changed.

        Args:
            state: of :meth:`state_dict`.
        """
        modules = dict(self._model.named_modules())
        for (name, attribute), value in state.items():
            if isinstance(value, Tensor):
                own = getattr(modules[name], attribute, None)
                value = value.to((own if isinstance(own, Tensor) else next(self._model.parameters())).device)
            setattr(modules[name], attribute, value)


def _is_number(value):
    if isinstance(value, Tensor):
        return value.numel() == 1
    return type(value) in (bool, int, float) or isinstance(value, (np.bool_, np.number))


def _copy(value):
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    return value.item() if isinstance(value, np.generic) else value  # which a checkpoint could not hold


def _is_same(value, initial):
    if isinstance(value, Tensor) and isinstance(initial, Tensor):
        return torch.equal(value, initial)
    return type(value) is type(initial) and value == initial
