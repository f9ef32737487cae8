"""Short texts that change when what decides a result changes."""

import copy
import hashlib
import os
from collections.abc import Sequence

import torch
from cankd.data import image_id_of
from cankd.engine import describe_config
from detectron2.data import MetadataCatalog
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf
from torch import nn

__all__ = ["fingerprint_data", "fingerprint_model"]


def fingerprint_data(data: DictConfig, records: Sequence[dict]) -> str:
    """Returns the fingerprint of a test set and of how it is read and evaluated.

    Args:
        data: ``dataloader`` of a config. The number of workers does not count.
        records: of the test set, in Detectron2's format. Of images and masks, ids, file sizes and labels count; of a
            COCO annotation file, its contents.
    """
    data = copy.deepcopy(data)
    OmegaConf.resolve(data)
    digest = hashlib.sha256(describe_config({**data.test, "num_workers": 0}).encode())
    digest.update(describe_config(data.evaluator).encode())
    for record in records:
        files = [record[key] for key in ("file_name", "sem_seg_file_name") if key in record]
        sizes = [os.path.getsize(PathManager.get_local_path(path)) for path in files]
        digest.update(repr((image_id_of(record), sizes, *([record["label"]] if "label" in record else []))).encode())
    names = data.test.dataset.get("names", ())
    for name in [names] if isinstance(names, str) else names:
        if path := MetadataCatalog.get(name).get("json_file"):
            with PathManager.open(path, "rb") as f:
                digest.update(f.read())
    return digest.hexdigest()


def fingerprint_model(model: nn.Module, description: DictConfig) -> str:
    """Returns the fingerprint of a model's weights and of the config that it was built from."""
    digest = hashlib.sha256(describe_config(description).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
