#!/usr/bin/env python
"""Errors of CanKD's loss and gradients in float32, by covariances and through the fused feature: `make bench`.

The head computes its loss from covariances where it can; the plain way makes the fused feature, normalises it and takes
the mean square. Both are compared with the plain way in float64. The table goes to benchmarks/numerics.md, on a GPU to
benchmarks/numerics_gpu.md.

Example:
    benchmarks/numerics.py --cases "as is" "student + 1e4"
"""

import argparse
import copy

import torch
import torch.nn.functional as F
from cankd.modeling import CanKDHead
from cankd.utils import markdown_table
from measuring import command, environment, page_name, write_page
from torch import nn

SHAPE = (2, 64, 32, 40)
LEVEL = "p3"


def by_covariances(head, student, teacher):
    return head({LEVEL: student}, {LEVEL: teacher})[f"loss_cankd_{LEVEL}"]


def by_fused_feature(head, student, teacher):
    fused = head.non_local[LEVEL](student, teacher)
    return head.weight * F.mse_loss(F.instance_norm(fused), F.instance_norm(teacher))


def collinear(x):
    """Gives all channels one map, and a thousandth of their own."""
    return x[:, :1] + 1e-3 * x


CASES = {"as is": (lambda x, y: (x, y))}
for mean in (1e2, 1e4):
    CASES[f"student + {mean:.0e}"] = lambda x, y, mean=mean: (x + mean, y)
    CASES[f"teacher + {mean:.0e}"] = lambda x, y, mean=mean: (x, y + mean)
    CASES[f"both + {mean:.0e}"] = lambda x, y, mean=mean: (x + mean, y + mean)
CASES["student's channels near-collinear"] = lambda x, y: (collinear(x), y)
CASES["teacher's channels near-collinear"] = lambda x, y: (x, collinear(y))
CASES["both near-collinear"] = lambda x, y: (collinear(x), collinear(y))
for scale in (1e-6, 1e-3, 1e3, 1e6, 1e7, 1e8):
    CASES[f"both × {scale:.0e}"] = lambda x, y, scale=scale: (scale * x, scale * y)
for scale in (1e-6, 1e8):
    CASES[f"student × {scale:.0e}"] = lambda x, y, scale=scale: (scale * x, y)
    CASES[f"teacher × {scale:.0e}"] = lambda x, y, scale=scale: (x, scale * y)


def draw_features(seed, device):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator).to(device) for _ in range(2)]


def build_head(seed, device):
    torch.manual_seed(seed)
    head = CanKDHead(levels=[LEVEL], in_channels=SHAPE[1])
    nn.init.normal_(head.non_local[LEVEL].norm.weight)  # starts at zero, where the attention is silent
    return head.to(device)


def evaluate(way, head, student, teacher, dtype):
    """Returns loss, gradient of the student's feature, and those of all parameters, in float64."""
    head = copy.deepcopy(head).to(dtype)
    student = student.to(dtype, copy=True).requires_grad_()
    loss = way(head, student, teacher.to(dtype))
    loss.backward()
    parameters = torch.cat([parameter.grad.flatten() for parameter in head.parameters()])
    return [value.detach().double() for value in (loss, student.grad, parameters)]


def errors(head, student, teacher):
    """Returns each value's largest error over its largest entry, by covariances and through the fused feature."""
    exact = evaluate(by_fused_feature, head, student, teacher, torch.float64)
    found = [evaluate(way, head, student, teacher, torch.float32) for way in (by_covariances, by_fused_feature)]
    return [
        ((value - wanted).abs().max() / wanted.abs().max()).item()
        for *values, wanted in zip(*found, exact)
        for value in values
    ]


def main(args):
    draws = [(build_head(seed, args.device), draw_features(seed, args.device)) for seed in range(args.draws)]
    rows = []
    for name in args.cases:
        found = torch.tensor([errors(head, *CASES[name](*features)) for head, features in draws], dtype=torch.float64)
        worst = found.amax(dim=0).tolist()  # NaN if one of them is
        rows.append([name, *(f"{error:.0e}" if error < float("inf") else "not finite" for error in worst)])
    values = ("loss", "gradient of x", "gradients of parameters")
    headers = ["features", *(f"{value}, {way}" for value in values for way in ("covariances", "fused feature"))]
    size = "×".join(map(str, SHAPE))
    write_page(
        page_name("numerics", args.device),
        f"# Rounding errors of CanKD's loss and gradients\n\n`{command()}`: float32 against float64, "
        f"{size} values of a standard normal distribution changed as the first column says, {environment(args.device)}."
        f" The head computes its loss from covariances; the other way makes the fused feature. An error is the largest "
        f"difference over the largest value, the worst of {args.draws} draws of features and parameters; x is the "
        f"student's feature.\n\n{markdown_table(rows, headers)}\n",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--draws", type=int, default=10, help="of features and parameters (default: 10)")
    main(parser.parse_args())
