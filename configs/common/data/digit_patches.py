from cankd.data import ClassificationMapper, RandomResizedCrop
from cankd.evaluation import ClassificationEvaluator
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, build_detection_train_loader, get_detection_dataset_dicts
from omegaconf import OmegaConf

dataloader = OmegaConf.create()

dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="digit_patches_train"),
    mapper=L(ClassificationMapper)(
        is_train=True, augmentations=[L(RandomResizedCrop)(size=112, scale=[0.5, 1.0])], image_format="RGB"
    ),
    total_batch_size=32,
    num_workers=1,
    aspect_ratio_grouping=False,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="digit_patches_val"),
    mapper=L(ClassificationMapper)(is_train=False, augmentations=[], image_format="RGB"),
    batch_size=32,
    num_workers=1,
)

dataloader.evaluator = L(ClassificationEvaluator)(dataset_name="${..test.dataset.names}")
