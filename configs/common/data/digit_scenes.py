import cankd.data  # noqa: F401  (registers the data set)
from cankd.evaluation import FastCOCOEvaluator
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from omegaconf import OmegaConf

dataloader = OmegaConf.create()

dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="digit_scenes_train"),
    mapper=L(DatasetMapper)(is_train=True, augmentations=[], image_format="BGR"),
    total_batch_size=8,
    num_workers=1,
    aspect_ratio_grouping=False,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="digit_scenes_val", filter_empty=False),
    mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format="BGR"),
    batch_size=8,
    num_workers=1,
)

dataloader.evaluator = L(FastCOCOEvaluator)(dataset_name="${..test.dataset.names}", tasks=("bbox",))
