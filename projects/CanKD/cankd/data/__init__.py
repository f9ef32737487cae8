from .checks import check_classes, check_crops, check_shapes
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
from .digit_scenes import DigitScenes, register_digit_scenes
from .records import load_records, metadata_of
from .registration import register_datasets

register_digit_scenes("digit_scenes_train", DigitScenes(split="train", num_images=3000))
register_digit_scenes("digit_scenes_val", DigitScenes(split="val", num_images=300))
