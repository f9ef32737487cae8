"""Tiny Digit Scenes in the formats of other tasks: keypoints, panoptic segmentation, LVIS; and a tree of Cityscapes."""

import json
import pathlib

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_coco_panoptic_separated, register_lvis_instances
from detectron2.data.datasets.builtin import register_all_cityscapes
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

KEYPOINTS = {
    "keypoint_names": ["left", "middle", "right"],
    "keypoint_flip_map": [("left", "right")],
    "keypoint_oks_sigmas": [0.05, 0.1, 0.05],
}
BACKGROUND = 11


def register_tasks(scenes, root):
    """Registers splits of Digit Scenes anew below a folder; returns their names by task."""
    writers = {"keypoints": _write_keypoints, "panoptic": _write_panoptic, "lvis": _write_lvis}
    names = {task: [] for task in writers}
    for name in scenes:
        metadata = MetadataCatalog.get(name)
        contents = json.loads(pathlib.Path(metadata.json_file).read_text())
        for task, write in writers.items():
            folder = root / task / name
            folder.mkdir(parents=True)
            names[task].append(write(contents, metadata, folder, f"{name}_{task}"))
    return names


def forget(name):
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def _write_keypoints(contents, metadata, folder, name):
    """Each digit has the ends of its box's diagonal and the middle as keypoints."""
    annotations = []
    for annotation in contents["annotations"]:
        x, y, width, height = annotation["bbox"]
        points = [x, y, 2, x + width / 2, y + height / 2, 2, x + width, y + height, 1]
        annotations.append({**annotation, "keypoints": points, "num_keypoints": 3})
    (folder / "keypoints.json").write_text(json.dumps({**contents, "annotations": annotations}))
    register_coco_instances(name, KEYPOINTS, str(folder / "keypoints.json"), metadata.image_root)
    return name


def _write_panoptic(contents, metadata, folder, name):
    """Digits are things and the background is stuff; of the stuff's masks, 0 is what things cover."""
    images, annotations = [], []
    for kind in ("images", "panoptic", "stuff"):
        (folder / kind).mkdir()
    for image in contents["images"]:
        mask = image["file_name"]
        images.append({**image, "file_name": mask.replace("png", "jpg")})  # as Detectron2 wants it of stuff
        cv2.imwrite(f"{folder}/images/{images[-1]['file_name']}", cv2.imread(f"{metadata.image_root}/{mask}"))
        semantic = cv2.imread(f"{metadata.sem_seg_root}/{mask}", cv2.IMREAD_UNCHANGED)
        ids = np.full(semantic.shape, 1000, np.int32) * (semantic == 0)
        segments = [{"id": 1000, "category_id": BACKGROUND}]
        for digit in (a for a in contents["annotations"] if a["image_id"] == image["id"]):
            x, y, width, height = digit["bbox"]
            window = np.s_[y : y + height, x : x + width]
            ids[window][semantic[window] == digit["category_id"]] = digit["id"]
            segments.append({"id": digit["id"], "category_id": digit["category_id"]})
        for segment in segments:
            segment.update(area=int((ids == segment["id"]).sum()), iscrowd=0)
        annotations.append({"image_id": image["id"], "file_name": mask, "segments_info": segments})
        cv2.imwrite(f"{folder}/panoptic/{mask}", np.stack([ids >> 16, ids >> 8, ids], -1) & 255)
        cv2.imwrite(f"{folder}/stuff/{mask}", (semantic == 0).astype(np.uint8))
    categories = [{**category, "isthing": 1} for category in contents["categories"]]
    categories.append({"id": BACKGROUND, "name": "background", "isthing": 0})
    panoptic = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "panoptic.json").write_text(json.dumps(panoptic))
    (folder / "instances.json").write_text(json.dumps({**contents, "images": images}))
    stuff = {"stuff_classes": ["things", "background"], "stuff_dataset_id_to_contiguous_id": {0: 0, BACKGROUND: 1}}
    things = {"thing_dataset_id_to_contiguous_id": {i: i - 1 for i in range(1, BACKGROUND)}}
    files = [str(folder / file) for file in ("images", "panoptic", "panoptic.json", "stuff", "instances.json")]
    register_coco_panoptic_separated(name, {**stuff, **things}, *files)
    return f"{name}_separated"


def _write_lvis(contents, metadata, folder, name):
    """Digits are the first ten classes of LVIS; each image is said to be free of the eleventh."""
    root = pathlib.Path(metadata.image_root)
    images = [
        {
            **image,
            "coco_url": f"http://host/{root.name}/{image['file_name']}",
            "neg_category_ids": [11],
            "not_exhaustive_category_ids": [3],
        }
        for image in contents["images"]
    ]
    (folder / "lvis.json").write_text(json.dumps({**contents, "images": images, "categories": LVIS_CATEGORIES}))
    name = f"{name}_v1"  # by which Detectron2 knows the classes
    register_lvis_instances(name, {}, str(folder / "lvis.json"), f"{root.parent}/")
    return name


def write_cityscapes(root, labels, *, height, width):
    """Writes Cityscapes' splits of two images each, in which squares of all classes cover the ground.

    Args:
        root: folder in which "cityscapes" will lie.
        labels: the module of cityscapesscripts.
        height, width: of the images.
    """
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        images, masks = (root / "cityscapes" / kind / split / "city" for kind in ("leftImg8bit", "gtFine"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for i in range(2):
            name = f"city_{i:06d}_000019"
            image = generator.integers(256, size=(height, width, 3), dtype=np.uint8)
            ids = np.kron(generator.integers(7, 34, size=(height // 8, width // 8)), np.ones((8, 8))).astype(np.uint8)
            instances, objects = ids.astype(np.uint16), []
            for j in range(2):  # a car of its own in a corner
                ids[:32, 48 * j : 48 * j + 32], instances[:32, 48 * j : 48 * j + 32] = 26, 26000 + j
                corners = [[48 * j, 0], [48 * j + 31, 0], [48 * j + 31, 31], [48 * j, 31]]
                objects.append({"label": "car", "polygon": corners})
            train_ids = np.vectorize(lambda i: labels.id2label[i].trainId % 256)(ids).astype(np.uint8)
            cv2.imwrite(str(images / f"{name}_leftImg8bit.png"), image)
            cv2.imwrite(str(masks / f"{name}_gtFine_labelIds.png"), ids)
            cv2.imwrite(str(masks / f"{name}_gtFine_labelTrainIds.png"), train_ids)
            cv2.imwrite(str(masks / f"{name}_gtFine_instanceIds.png"), instances)
            size = {"imgHeight": height, "imgWidth": width, "objects": objects}
            (masks / f"{name}_gtFine_polygons.json").write_text(json.dumps(size))


def register_cityscapes_again(root):
    """Registers Detectron2's Cityscapes splits below another folder."""
    for name in [name for name in DatasetCatalog if name.startswith("cityscapes_")]:
        forget(name)
    register_all_cityscapes(str(root))
