#!/usr/bin/env python
"""How strongly a distillation pulls against the task in the first step, for pairs that gain and for every method.

The range that tools/check_distillation.py calls known to help comes from here. The table goes to
benchmarks/gradient_balance.md.

Example:
    benchmarks/gradient_balance.py --seeds 0 1 2
"""

import argparse

import cankd.utils.quiet  # noqa: F401
from cankd import model_zoo
from cankd.analysis import check_distillation
from cankd.engine import METHODS, use_method
from cankd.utils import UserError, markdown_table
from measuring import command, write_page
from tqdm import tqdm

RETINANET = "retinanet_R10_from_R18"
PAIRS = [RETINANET, "faster_rcnn_R10_from_R18", "semantic_fpn_R10_from_R18", "mask_rcnn_R10_from_R18"]
CASES = [
    *((pair, "cankd") for pair in [*PAIRS, "pspnet_R10_from_R18"]),
    *((f"{pair}_inherit", "cankd_inherit") for pair in PAIRS),  # these configs name the parts that fit
    *((RETINANET, method) for method in METHODS if method != "cankd"),
]


def measure_ratio(config_file, method, seed):
    """Returns the ratio of the gradients' norms at the parameters, None if the method is not for this model."""
    try:
        config = use_method(model_zoo.get_config(f"DigitScenes/{config_file}.py"), method)
    except UserError:
        return None
    config.train.seed = seed
    found = check_distillation(config, num_images=0, report=lambda line: None)
    return found["parameters"]["ratio"] if found.get("parameters") else None


def main(args):
    rows = []
    for pair, method in tqdm(CASES, unit="pair"):
        ratios = [measure_ratio(pair, method, seed) for seed in args.seeds]
        if None not in ratios:
            rows.append([pair, method, f"{min(ratios):.2g}", f"{max(ratios):.2g}"])
    seeds = ", ".join(map(str, args.seeds))
    text = (
        f"# The distillation's gradient against the task's\n\n`{command()}`: ratio of the two norms "
        "at the parameters that both train, in the first step of 8 images on Digit Scenes, as "
        "`tools/check_distillation.py` measures it, with the published weights; seeds "
        f"{seeds}.\n\n{markdown_table(rows, ['pair', 'method', 'smallest', 'largest'])}\n"
    )
    write_page("gradient_balance.md", text)


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(parse_arguments())
