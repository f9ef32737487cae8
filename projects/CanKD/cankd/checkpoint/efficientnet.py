"""Names of EfficientNet's weights."""

import itertools
from collections.abc import Mapping

from torch import Tensor

__all__ = ["rename_efficientnet"]

_OUTER_LAYERS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_BLOCK_LAYERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# A block that does not expand its input.
_SEPARABLE_LAYERS = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def rename_efficientnet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives the weights of an EfficientNet-Lite, named as efficientnet_pytorch and its offspring do, timm's names.

    There, blocks are counted through; here, by stage. A stage begins where a block changes the number of channels.

    Args:
        weights: by name, as "_blocks.3._bn1.weight".
    """
    layers = {"": ("", _OUTER_LAYERS)}
    stage = position = -1
    for index in itertools.count():
        block = f"_blocks.{index}"
        if f"{block}._project_conv.weight" not in weights:
            break
        expands = f"{block}._expand_conv.weight" in weights
        first = weights[f"{block}._expand_conv.weight" if expands else f"{block}._depthwise_conv.weight"]
        begins = weights[f"{block}._project_conv.weight"].shape[0] != first.shape[1 if expands else 0]
        stage, position = (stage + 1, 0) if begins else (stage, position + 1)
        layers[block] = f"blocks.{stage}.{position}.", _BLOCK_LAYERS if expands else _SEPARABLE_LAYERS
    renamed = {}
    for name, value in weights.items():
        *block, layer, kind = name.split(".")
        prefix, known = layers[".".join(block)]
        renamed[f"{prefix}{known.get(layer, layer)}.{kind}"] = value
    return renamed
