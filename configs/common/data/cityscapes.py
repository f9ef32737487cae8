"""Cityscapes for semantic segmentation: crops of 512×1024 of images at half to double size, 8 an iteration."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.evaluation import CityscapesSemSegEvaluator
from detectron2.projects.point_rend import ColorAugSSDTransform
from omegaconf import OmegaConf

dataloader = OmegaConf.create()

dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="cityscapes_fine_sem_seg_train", filter_empty=False),
    mapper=L(DatasetMapper)(
        is_train=True,
        augmentations=[
            L(T.ResizeScale)(min_scale=0.5, max_scale=2.0, target_height=1024, target_width=2048),
            # A class may not fill more than three quarters of a crop.
            L(T.RandomCrop_CategoryAreaConstraint)(
                crop_type="absolute", crop_size=[512, 1024], single_category_max_area=0.75, ignored_category=255
            ),
            L(T.RandomFlip)(),
            L(ColorAugSSDTransform)(img_format="${...image_format}"),
        ],
        image_format="RGB",
    ),
    total_batch_size=8,
    num_workers=4,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="cityscapes_fine_sem_seg_val", filter_empty=False),
    mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format="${...train.mapper.image_format}"),
    num_workers=4,
)

dataloader.evaluator = L(CityscapesSemSegEvaluator)(dataset_name="${..test.dataset.names}")
