import os

from .annotation_checks import without_broken_shapes
from .center_crop import CenterCrop
from .checks import check_crops, check_image_classes, check_records, check_training_data, num_classes_of
from .classification_mapper import ClassificationMapper
from .coco_checks import check_coco, check_keypoints, complete_keypoints
from .corruptions import (
    CORRUPTION_GROUPS,
    MIN_SIDE,
    SEVERITIES,
    Cell,
    CorruptedDataset,
    choose_cells,
    compile_corruptions,
    corrupt,
    image_id_of,
)
from .digit_patches import DigitPatches, register_digit_patches
from .digit_scenes import DigitScenes, register_digit_scenes
from .file_naming_mapper import FileNamingMapper
from .image_folders import imagenet_classes, load_image_folder, register_image_folders
from .images import IMAGE_SUFFIXES, check_image, is_image_name, is_turned, list_images, naming_broken_image
from .random_resized_crop import RandomResizedCrop
from .records import dataset_names, load_records, metadata_of
from .registration import dataset_root, register_datasets
from .resumable_loader import ResumableLoader
from .subsets import register_subset
from .unlabelled import UnlabelledMapper, load_unlabelled, without_annotations

register_image_folders("imagenet", os.path.join(dataset_root(), "imagenet"), class_names=imagenet_classes)

register_digit_scenes("digit_scenes_train", DigitScenes(split="train", num_images=3000))
register_digit_scenes("digit_scenes_val", DigitScenes(split="val", num_images=300))
register_digit_scenes(
    "digit_scenes_320_train", DigitScenes(split="train", num_images=750, image_size=320, max_digits=20)
)
register_digit_scenes("digit_scenes_320_val", DigitScenes(split="val", num_images=150, image_size=320, max_digits=20))
register_subset("digit_scenes_train_150", "digit_scenes_train", stop=150)
register_subset("digit_scenes_train_300", "digit_scenes_train", stop=300)
register_subset("digit_scenes_train_2850_unlabelled", "digit_scenes_train", start=150, labelled=False)

register_digit_patches("digit_patches_train", DigitPatches(split="train", num_images=4000))
register_digit_patches("digit_patches_val", DigitPatches(split="val", num_images=1000))
