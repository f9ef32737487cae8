"""ImageNet-1K below ``$DETECTRON2_DATASETS/imagenet``, with the usual crops of 224 pixels, 256 images an iteration."""

import detectron2.data.transforms as T
from cankd.data import CenterCrop, ClassificationMapper, RandomResizedCrop
from cankd.evaluation import ClassificationEvaluator
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, build_detection_train_loader, get_detection_dataset_dicts
from omegaconf import OmegaConf

dataloader = OmegaConf.create()

dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="imagenet_train"),
    mapper=L(ClassificationMapper)(
        is_train=True, augmentations=[L(RandomResizedCrop)(size=224), L(T.RandomFlip)()], image_format="RGB"
    ),
    total_batch_size=256,
    num_workers=8,
    aspect_ratio_grouping=False,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="imagenet_val"),
    mapper=L(ClassificationMapper)(
        is_train=False,
        augmentations=[L(T.ResizeShortestEdge)(short_edge_length=256), L(CenterCrop)(size=224)],
        image_format="RGB",
    ),
    batch_size=32,
    num_workers=8,
)

dataloader.evaluator = L(ClassificationEvaluator)(dataset_name="${..test.dataset.names}")
