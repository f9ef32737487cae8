import difflib
import math
import os
from collections.abc import Mapping, Sequence

from cankd.utils import UserError, place_of
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

__all__ = ["TimmBackbone"]

POOLED = "pooled"


class TimmBackbone(Backbone):
    """A network of timm as a backbone, for classifiers, and below an FPN for detectors.

    Its stages are named as a ResNet's of the same strides: "res2" has stride 4, "res5" 32; "res1", if there is one, 2.
    Where several stages have one stride, as the blocks of a vision transformer, they are "block0", "block1" and so on.
    One more output, "pooled", is the vector that the network's own classifier sees. It is not always the mean of the
    last stage: EfficientNet-Lite has a convolution in between, DeiT takes its class token.

    The network itself is :attr:`net`, without its classifier. Unless "pooled" is asked for, it has no layers behind the
    last stage that is.
    """

    def __init__(
        self,
        *,
        name: str,
        out_features: Sequence[str] = ("res5",),
        pretrained: bool = False,
        checkpoint: str = "",
        **kwargs,
    ):
        """
        Args:
            name: timm's name of the network, for example "mobilenetv1_100".
            out_features: names of stages, and "pooled".
            pretrained: whether to fetch the weights that timm has for the name.
            checkpoint: path or URL of a file with weights by timm's names, to start from instead.
            kwargs: of ``timm.create_model``. Vision transformers take images of any size with
                ``dynamic_img_size=True``; a checkpoint of other classes than ImageNet's needs ``num_classes``.

        Raises:
            UserError: if timm is not installed, has no such network or no weights for it, or cannot build it with these
                arguments; if the checkpoint is absent or of another network; if there is no such stage.
        """
        super().__init__()
        self.net = _build(name, pretrained, checkpoint, kwargs)
        self.initial_weights = checkpoint or ("timm" if pretrained else "")
        """Where its weights come from: a checkpoint, "timm", or "" if they are random."""
        weights = _linear_weights(self.net.get_classifier()) if self.initial_weights else {}
        self.pretrained_classifier: Mapping[str, Tensor] = weights
        """Weights of the linear layer that came with the network's; none if none came, or it has no linear one."""
        config = self.net.pretrained_cfg if pretrained and not checkpoint else {}
        self.pretrained_normalization: Mapping[str, list[float]] = {
            f"pixel_{key}": [255 * value for value in config[key]] for key in ("mean", "std") if key in config
        }
        """``pixel_mean`` and ``pixel_std``, for RGB from 0 to 255, that timm's own weights expect; none for others."""
        self.net.reset_classifier(0)
        stages = _describe_stages(name, self.net)
        if not out_features:
            raise UserError(f"out_features is empty; {name} has {', '.join(stages)}")
        if unknown := [level for level in out_features if level not in stages]:
            raise UserError(f"out_features has {unknown}; {name} has {', '.join(stages)}")
        self._out_features = [level for level in stages if level in out_features]
        self._out_feature_channels = {level: stages[level].channels for level in self._out_features}
        self._out_feature_strides = {level: stages[level].stride for level in self._out_features}
        self._indices = [list(stages).index(level) for level in self._out_features if level != POOLED]
        self._size_divisibility = stages["block0"].stride if "block0" in stages else 0
        if POOLED not in self._out_features:
            self.net.prune_intermediate_layers(self._indices, prune_norm=True, prune_head=True)

    @property
    def size_divisibility(self) -> int:
        """Images for a vision transformer are padded to whole patches."""
        return self._size_divisibility

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Maps images ``(N, 3, H, W)`` to ``(N, C, H / stride, W / stride)`` by stage, and "pooled" to ``(N, C)``."""
        names = [level for level in self._out_features if level != POOLED]
        if POOLED not in self._out_features:
            stages = self.net.forward_intermediates(image, self._indices, stop_early=True, intermediates_only=True)
            return dict(zip(names, stages))
        last, stages = self.net.forward_intermediates(image, self._indices or [0])  # timm does not take an empty list
        return {**dict(zip(names, stages)), POOLED: self.net.forward_head(last, pre_logits=True)}


def _build(name, pretrained, checkpoint, arguments):
    """Returns timm's network with its weights."""
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"{name} is a network of timm, which is not installed: pip install 'cankd[classification]' (or timm)"
        ) from error
    if ":" not in name and not timm.is_model(name):  # what has a colon is a place of Hugging Face's or a folder
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"near it are {', '.join(close)}" if close else "timm.list_models() has their names"
        raise UserError(f"timm has no network {name!r}; {hint}")
    try:
        path = PathManager.get_local_path(checkpoint) if checkpoint else ""
        if checkpoint and not os.path.isfile(path):
            raise UserError(f"there is no checkpoint {checkpoint} for {name}{place_of(checkpoint)}: check the path")
        return timm.create_model(name, pretrained=pretrained and not checkpoint, checkpoint_path=path, **arguments)
    except UserError:
        raise
    except Exception as error:  # timm, its hub and a file from elsewhere fail in many ways
        weights = f" with the weights {checkpoint}" if checkpoint else " with pretrained weights" if pretrained else ""
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"timm cannot build {name}{weights}: {reason}") from error


def _linear_weights(classifier):
    """Returns the weights of a linear layer, or of a convolution that is one; none of other classifiers."""
    is_linear = isinstance(classifier, nn.Linear)
    if not is_linear and not (isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1)):
        return {}
    return {name: value.flatten(1) if value.ndim == 4 else value for name, value in classifier.state_dict().items()}


def _describe_stages(name, net):
    """Returns channels and stride of each stage by name, in order, and of what the classifier sees."""
    if not (hasattr(net, "forward_intermediates") and getattr(net, "feature_info", None)):
        raise UserError(f"{name} gives no feature maps of its stages (timm's forward_intermediates): take another one")
    shapes = [ShapeSpec(channels=stage["num_chs"], stride=stage["reduction"]) for stage in net.feature_info]
    strides = [shape.stride for shape in shapes]
    if len(set(strides)) == len(strides):
        names = [f"res{int(math.log2(stride))}" for stride in strides]
    else:
        names = [f"block{i}" for i in range(len(shapes))]
    return {**dict(zip(names, shapes)), POOLED: ShapeSpec(channels=net.head_hidden_size)}
