"""Small detectors, random batches for them, teachers with random weights, and files of configs."""

import pathlib
import pickle

import torch
from cankd import model_zoo
from cankd.modeling import CanKDHead, Distiller, Teacher
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances, PolygonMasks
from omegaconf import OmegaConf, SCMode

DETECTORS = ("retinanet", "faster_rcnn", "cascade_rcnn", "fcos", "reppoints")


def detector_config(kind, width=16):
    """Returns the config of a small detector of 10 classes with levels p3, p4, p5 of 64 channels."""
    config = model_zoo.get_config(f"common/models/small_{kind}.py").model
    for i, stage in enumerate(config.backbone.bottom_up.stages):
        stage.in_channels, stage.out_channels = width * 2 ** max(i - 1, 0), width * 2**i
    config.backbone.bottom_up.stem.out_channels = width
    return config


def detector(kind, width=16):
    return instantiate(detector_config(kind, width))


def batch(images=2, size=96, seed=0, device="cpu"):
    """Returns a random batch with two objects and a semantic mask an image, as Detectron2's loaders give it.

    An object's mask fills its box.
    """
    generator = torch.Generator().manual_seed(seed)
    records = []
    for i in range(images):
        instances = Instances((size, size))
        corners = torch.rand(2, 2, generator=generator) * size / 2
        instances.gt_boxes = Boxes(torch.cat([corners, corners + size / 3], 1))
        boxes = instances.gt_boxes.tensor.numpy()
        instances.gt_masks = PolygonMasks([[box[[0, 1, 2, 1, 2, 3, 0, 3]]] for box in boxes])
        instances.gt_classes = torch.randint(10, (2,), generator=generator)
        image = torch.randint(256, (3, size, size), generator=generator).to(torch.uint8)
        sem_seg = torch.randint(11, (size, size), generator=generator)
        sizes = {"height": size, "width": size}
        records.append({"image": image, "image_id": i, "instances": instances, "sem_seg": sem_seg, **sizes})
    return records


def save_weights(model, path):
    torch.save({"model": model.state_dict()}, path)
    return str(path)


def write_config(config, path):
    """Writes a LazyConfig as a Python file, which can be run; as YAML it is refused."""
    plain = OmegaConf.to_container(config, structured_config_mode=SCMode.INSTANTIATE)
    pathlib.Path(path).write_text(f"import pickle\n\nglobals().update(pickle.loads({pickle.dumps(plain)!r}))\n")
    return str(path)


LEVELS = ("p3", "p4", "p5")


def teacher(tmp_path, kind="retinanet", width=24, levels=LEVELS, **arguments):
    """Returns a teacher that knows its levels."""
    model = detector(kind, width)
    found = Teacher(model=model, weights=save_weights(model, tmp_path / "teacher.pth"), **arguments)
    found.choose_levels(levels)
    return found


def distiller(tmp_path, student="retinanet", teacher_kind="retinanet", head=None, **arguments):
    """Returns a distiller whose student is narrower than its teacher."""
    head = head or CanKDHead(levels=["p3", "p4", "p5"], in_channels=64, pool_size=1)
    return Distiller(student=detector(student), teacher=teacher(tmp_path, teacher_kind), head=head, **arguments)
