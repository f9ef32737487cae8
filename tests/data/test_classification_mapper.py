import cv2
import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from cankd.data import CenterCrop, ClassificationMapper, RandomResizedCrop
from cankd.utils import report_mistakes
from detectron2.data import build_detection_test_loader
from PIL import Image

COLOUR = (200, 100, 50)


def mapper(*augmentations, is_train=False):
    return ClassificationMapper(is_train=is_train, augmentations=list(augmentations), image_format="RGB")


def save(path, mode):
    image = Image.new("RGB", (40, 30), COLOUR)
    if mode == "I;16":
        cv2.imwrite(str(path), np.full((30, 40), 40000, np.uint16))
    else:
        image.convert(mode).save(path)
    return {"file_name": str(path), "label": 1}


@pytest.mark.parametrize("mode, suffix", [("RGB", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("L", "jpg"), ("RGBA", "png")])
def test_other_modes_become_rgb(mode, suffix, tmp_path):
    record = mapper()(save(tmp_path / f"a.{suffix}", mode))
    assert record["image"].shape == (3, 30, 40) and record["label"] == 1
    expected = torch.tensor([124.0] * 3 if mode == "L" else COLOUR)
    assert (record["image"].float().mean((1, 2)) - expected).abs().max() < 8


def test_refuses_16_bits(tmp_path):
    with pytest.raises(ValueError, match=r"a.png has pixels of mode I;16: models take 8 bits a channel"):
        mapper()(save(tmp_path / "a.png", "I;16"))


def truncate(tmp_path):
    record = save(tmp_path / "a.jpg", "RGB")
    path = tmp_path / "a.jpg"
    path.write_bytes(path.read_bytes()[:-80])
    return record


def test_names_a_truncated_image(tmp_path):
    with pytest.raises(ValueError, match="a.jpg cannot be read as an image; it may be cut off"):
        mapper()(truncate(tmp_path))


def test_a_worker_of_the_loader_names_it_in_one_line(tmp_path):
    loader = build_detection_test_loader([truncate(tmp_path)], mapper=mapper(), num_workers=1)
    with pytest.raises(SystemExit) as exit:
        report_mistakes()(lambda: next(iter(loader)))()
    message = exit.value.code
    assert message.startswith(f"Error: {tmp_path}/a.jpg cannot be read as an image") and "\n" not in message


def test_the_usual_test_transform():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 30:50] = 255  # the middle, 20 of 80 wide
    found = T.AugInput(image)
    T.AugmentationList([T.ResizeShortestEdge(20), CenterCrop(size=10)])(found)
    assert found.image.shape == (10, 10, 3) and found.image.min() > 200
    with pytest.raises(ValueError, match="an image of 40×80 has no square of 41 pixels"):
        CenterCrop(size=41).get_transform(image)


def test_random_resized_crops_have_the_area_and_ratio_asked_for():
    image = np.zeros((100, 100, 3), np.uint8)
    crop = RandomResizedCrop(size=8, scale=(0.25, 0.5), ratio=(0.5, 2.0))
    boxes = [crop.get_transform(image).transforms[0] for _ in range(300)]
    areas, ratios = ([f(t) for t in boxes] for f in (lambda t: t.w * t.h / 1e4, lambda t: t.w / t.h))
    assert 0.24 < min(areas) < 0.27 and 0.47 < max(areas) < 0.51
    assert 0.49 < min(ratios) < 0.6 and 1.7 < max(ratios) < 2.05
    assert {(t.x0 + t.w <= 100, t.y0 + t.h <= 100) for t in boxes} == {(True, True)}
    assert crop.get_transform(image).apply_image(image).shape == (8, 8, 3)


def test_is_part_of_a_mapper_for_training(tmp_path):
    record = mapper(RandomResizedCrop(size=16), T.RandomFlip(), is_train=True)(save(tmp_path / "a.jpg", "RGB"))
    assert record["image"].shape == (3, 16, 16) and record["label"] == 1
