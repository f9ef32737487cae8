"""The paper's R50 ← R101 pairs with random weights and random images: for benchmarks, which need no accuracy."""

import torch
from cankd import model_zoo
from cankd.engine import build_model, load_config
from cankd.modeling import Distiller
from detectron2.structures import Boxes, Instances

PAIRS = {
    "RetinaNet": "COCO-Detection/retinanet_R50_from_R101.py",
    "Faster R-CNN": "COCO-Detection/faster_rcnn_R50_from_R101.py",
}


def build_distiller(pair: str, device: str, **teacher_options: object) -> Distiller:
    """Builds a pair's distiller, its student in training mode; the options are those of its ``Teacher``."""
    torch.manual_seed(0)
    config = load_config(model_zoo.get_config_file(PAIRS[pair]))
    config.train.device = device
    config.model.teacher.update(weights=None, **teacher_options)
    model = build_model(config)
    damp(model.teacher.model)
    damp(model.student)
    return model.train()


def damp(model):
    """Keeps random residual blocks, which have no statistics to normalise by, from doubling what comes in."""
    for name, value in model.state_dict().items():
        if name.endswith("conv3.norm.weight"):
            value.fill_(0.1)
    return model


def build_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6, momentum=0.9)


def random_batch(images: int, height: int, width: int, objects: int = 8) -> list[dict]:
    """Returns images with objects of COCO's 80 classes, as Detectron2's loaders give them."""
    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(images):
        corner = torch.rand(objects, 2, generator=generator) * torch.tensor([width, height]) * 0.6
        side = (torch.rand(objects, 2, generator=generator) * 0.3 + 0.05) * torch.tensor([width, height])
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.cat([corner, corner + side], 1))
        instances.gt_classes = torch.randint(80, (objects,), generator=generator)
        image = torch.randint(256, (3, height, width), generator=generator).to(torch.uint8)
        batch.append({"image": image, "instances": instances, "height": height, "width": width})
    return batch
