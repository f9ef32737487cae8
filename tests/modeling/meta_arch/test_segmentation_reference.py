"""Segmentation heads and MobileNetV2 against values of the original: outputs and initial weights."""

import json

import numpy as np
import pytest
import torch
from cankd.layers import conv_norm_relu
from cankd.modeling.backbone import MobileNetV2
from cankd.modeling.meta_arch import ASPP, PyramidPooling, SemSegHead
from torch import nn

from tests.initial_weights import assert_start, rename
from tests.references import reference

LEVELS = {2: "res2", 3: "res3", 5: "res4", 7: "res5"}  # layer of the original: level


def load(name):
    return {key: torch.as_tensor(value) for key, value in np.load(reference(name)).items() if value.dtype.kind != "U"}


def segmentation_head(context, channels, num_classes):
    return SemSegHead(in_feature="res5", stride=1, context=context, context_channels=channels, num_classes=num_classes)


def context(kind, in_channels, channels, values):
    if kind == "deeplab_v3_head":
        first, *dilations = values["dilations"].tolist()
        assert first == 1
        return ASPP(in_channels=in_channels, out_channels=channels, dilations=dilations)
    if kind == "psp_head":
        return PyramidPooling(in_channels, channels, sizes=values["pooled_sizes"].tolist())
    return conv_norm_relu(in_channels, channels, 3)


def convolutions(kind, head):
    """Returns the head's convolutions with norms, by their names in the file."""
    if kind == "fcn_auxiliary_head":
        return {"convolution": head.context}
    branches = [branch if isinstance(branch, nn.Conv2d) else branch[1] for branch in head.context.branches]
    named = {f"branch_{index}": branch for index, branch in enumerate(branches)}
    if kind == "deeplab_v3_head":
        named["image_pooling"] = head.context.image_pooling[1]
    return {**named, "fusion": head.context.bottleneck}


@pytest.mark.parametrize("kind", ["deeplab_v3_head", "psp_head", "fcn_auxiliary_head"])
def test_head_equals_reference(kind):
    values = load(f"{kind}.npz")
    num_classes, channels, *_ = values["parameters/classifier/weight"].shape
    head = segmentation_head(context(kind, values["input"].shape[1], channels, values), channels, num_classes)
    named = convolutions(kind, head)
    assert {name.split("/")[1] for name in values if name.startswith("parameters")} == {*named, "classifier"}
    with torch.no_grad():
        for name, conv in named.items():
            conv.weight.copy_(values[f"parameters/{name}/weight"])
            conv.norm.eps = values["norm_epsilon"].item()
            for parameter in ("weight", "bias", "running_mean"):
                getattr(conv.norm, parameter).copy_(values[f"parameters/{name}/norm_{parameter}"])
            conv.norm.running_var.copy_(values[f"parameters/{name}/norm_running_variance"])
        head.predictor.weight.copy_(values["parameters/classifier/weight"])
        head.predictor.bias.copy_(values["parameters/classifier/bias"])
        scores, _ = head.double().eval()({"res5": values["input"].double()})
    torch.testing.assert_close(scores.double(), values["logits"], rtol=1e-5, atol=1e-5)


def test_mobilenet_equals_reference():
    file = np.load(reference("mobilenet_v2_dilated.npz"))
    # The registration order is the original's, but for names.
    parameters = [torch.as_tensor(file[f"parameters/{name}"]) for name in file["parameter_names"]]
    backbone = MobileNetV2(out_features=list(LEVELS.values()), width_mult=file["widen_factor"].item()).double().eval()
    state = {name: value for name, value in backbone.state_dict().items() if "num_batches" not in name}
    assert [value.shape for value in state.values()] == [value.shape for value in parameters]
    backbone.load_state_dict(dict(zip(state, parameters)), strict=False)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = file["norm_epsilon"].item()
    features = backbone(torch.as_tensor(file["input"]).double())
    for (layer, level), channels in zip(LEVELS.items(), file["output_channels"].tolist()):
        assert backbone.output_shape()[level].channels == channels
        torch.testing.assert_close(features[level], torch.as_tensor(file[f"output_layer_{layer}"]))


def test_mobilenet_dilations_equal_reference():
    file = np.load(reference("mobilenet_v2_dilated.npz"))
    depthwise = [m for m in MobileNetV2().modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    columns = dict(zip(file["depthwise_table_columns"].tolist(), file["depthwise_table"].T.tolist()))
    assert [conv.in_channels for conv in depthwise] == columns["channels"]
    for name in ("stride", "dilation", "padding"):
        assert [getattr(conv, name) for conv in depthwise] == [(value, value) for value in columns[name]], name


NAMES = {
    ".conv.": ".",
    ".bn.": ".norm.",
    "conv_seg": "predictor",
    "bottleneck": "context.bottleneck",
    "image_pool": "context.image_pooling",
    "aspp_modules": "context.branches",
    "psp_modules": "context.branches",
    "convs.0": "context",
}
FIRST = {
    "deeplab_v3_head": "context.branches.0.weight",
    "psp_head": "context.branches.0.1.weight",
    "fcn_auxiliary_head": "context.weight",
}


@pytest.mark.parametrize("kind", FIRST)
def test_head_starts_as_reference(kind):
    table = rename(json.loads(reference("segmentation_initialisation.json").read_text())[kind], NAMES)
    num_classes, channels, *_ = table["predictor.weight"]["shape"]
    branches = [name for name in table if name.startswith("context.branches") and "norm" not in name]
    values = {"dilations": torch.arange(len(branches)) + 1, "pooled_sizes": torch.arange(len(branches)) + 1}
    in_channels = table[FIRST[kind]]["shape"][1]
    head = segmentation_head(context(kind, in_channels, channels, values), channels, num_classes)
    assert_start(dict(head.named_parameters()), table)


def test_mobilenet_starts_as_reference():
    table = json.loads(reference("segmentation_initialisation.json").read_text())["mobilenet_v2"]
    parameters = dict(MobileNetV2().named_parameters())
    assert_start(parameters, dict(zip(parameters, table.values(), strict=True)))
