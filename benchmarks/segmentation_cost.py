#!/usr/bin/env python
"""Parameters and FLOPs of the Cityscapes models, for one crop of 512×1024, by fvcore.

The table goes to benchmarks/segmentation_cost.md. Multiply-adds count once; element-wise operations do not count.

Example:
    benchmarks/segmentation_cost.py
"""

import pathlib

import torch
from cankd import model_zoo
from cankd.engine import load_config
from cankd.engine.measurements import count_flops
from detectron2.config import instantiate
from fvcore.nn import parameter_count
from measuring import pipe_table, write_page
from tqdm import tqdm

FOLDER = pathlib.Path(model_zoo.get_config_file("Cityscapes-SemanticSegmentation/pspnet_R18.py")).parent
SIZE = (512, 1024)


def measure(path):
    """Returns parameters and FLOPs, in units of 10⁶ and 10⁹, of the model that a config describes."""
    model = instantiate(load_config(str(path)).model)
    if hasattr(model.sem_seg_head, "auxiliary"):
        model.sem_seg_head.auxiliary = None
    image = {"image": torch.zeros(3, *SIZE, dtype=torch.uint8), "height": SIZE[0], "width": SIZE[1]}
    return parameter_count(model)[""] / 1e6, count_flops(model, [image]) / 1e9


def main():
    paths = sorted(path for path in FOLDER.glob("*.py") if "_from_" not in path.stem)
    rows = []
    for path in tqdm(paths, unit="model"):
        parameters, flops = measure(path)
        rows.append([path.stem, f"{parameters:.1f}", f"{flops:.1f}"])
    table = pipe_table(rows, ["model", "parameters (M)", "FLOPs (G)"])
    about = f"`benchmarks/segmentation_cost.py`: one crop of {SIZE[0]}×{SIZE[1]}, 19 classes, without auxiliary heads."
    text = f"# Parameters and FLOPs of the segmentation models\n\n{about}\n\n{table}\n"
    write_page("segmentation_cost.md", text)


if __name__ == "__main__":
    main()
