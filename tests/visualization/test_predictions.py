import cv2
import numpy as np
import torch
from cankd.visualization import draw_annotations, draw_class, draw_detections, draw_segmentation, save_grid
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances, RotatedBoxes


def changed(picture, image, scale):
    """Returns where a picture differs from the image that it was drawn on, at the image's size."""
    enlarged = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    difference = np.abs(picture.astype(int) - enlarged).sum(2) > 30
    return difference[:: int(scale), :: int(scale)]


def test_draws_boxes_above_the_threshold(tiny_scenes):
    metadata = MetadataCatalog.get(tiny_scenes[1])
    image = np.full((160, 160, 3), 128, np.uint8)
    instances = Instances(
        (160, 160),
        pred_boxes=Boxes(torch.tensor([[20.0, 30, 60, 90], [100, 100, 140, 140]])),
        pred_classes=torch.tensor([3, 7]),
        scores=torch.tensor([0.9, 0.2]),
    )
    picture = draw_detections(image, instances, metadata, scale=2)
    assert picture.shape == (320, 320, 3) and picture.dtype == np.uint8
    where = changed(picture, image, 2)
    assert where[30:90, 19:22].any(1).all() and not where[95:, 95:].any()
    everything = changed(draw_detections(image, instances, metadata, scale=2, score_threshold=0.1), image, 2)
    assert everything[100:140, 99:102].any(1).all()


def test_draws_annotations_and_nothing_where_there_are_none(tiny_scenes):
    metadata = MetadataCatalog.get(tiny_scenes[1])
    record = DatasetCatalog.get(tiny_scenes[1])[0]
    image = np.full((160, 160, 3), 128, np.uint8)
    x, y, w, h = map(int, record["annotations"][0]["bbox"])
    assert changed(draw_annotations(image, record["annotations"], metadata, scale=2), image, 2)[y : y + h, x].all()
    assert not changed(draw_annotations(image, [], metadata, scale=2), image, 2).any()


def test_masks_and_keypoints_are_filled_in(tiny_scenes):
    """Where neither the box's edge nor the label is."""
    metadata, image = MetadataCatalog.get(tiny_scenes[1]), np.full((160, 160, 3), 128, np.uint8)
    boxes = Boxes(torch.tensor([[20.0, 30, 120, 150]]))
    found = Instances((160, 160), pred_boxes=boxes, pred_classes=torch.tensor([3]), scores=torch.tensor([0.9]))
    assert not changed(draw_detections(image, found, metadata, scale=2), image, 2)[45:140, 25:115].any()
    found.pred_masks = torch.zeros(1, 160, 160, dtype=torch.bool)
    found.pred_masks[:, 60:100, 40:80] = True
    filled = changed(draw_detections(image, found, metadata, scale=2), image, 2)[45:140, 25:115]
    assert filled[17:53, 17:53].all() and not filled[60:].any()
    found.pred_keypoints = torch.tensor([[[100.0, 130, 0.9], [60, 130, 0.0]]])
    dotted = changed(draw_detections(image, found, metadata, scale=2), image, 2)
    assert dotted[130, 100] and not dotted[130, 60]

    annotation = {"bbox": [20, 30, 120, 150], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 3}
    polygon, keypoints = ([40, 60, 80, 60, 80, 100, 40, 100],), np.array([100, 130, 2, 60, 130, 0])
    annotation |= {"segmentation": polygon, "keypoints": keypoints}
    drawn = changed(draw_annotations(image, [annotation], metadata, scale=2), image, 2)
    assert drawn[62:98, 42:78].all() and drawn[130, 100] and not drawn[130, 60] and not drawn[45:58, 25:115].any()


def test_rotated_boxes_are_rotated(tiny_scenes):
    metadata, image = MetadataCatalog.get(tiny_scenes[1]), np.full((160, 160, 3), 128, np.uint8)
    box = [80.0, 80.0, 80.0, 40.0, 90.0]  # centre, width, height: upright, it is 40 wide and 80 high
    found = Instances((160, 160), pred_boxes=RotatedBoxes(torch.tensor([box])), scores=torch.tensor([0.9]))
    found.pred_classes = torch.tensor([3])
    annotation = {"bbox": box, "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 3}
    for picture in (
        draw_detections(image, found, metadata, scale=2),
        draw_annotations(image, [annotation], metadata, scale=2),
    ):
        where = changed(picture, image, 2)
        assert where[60:115, 59:62].any(1).mean() > 0.5 and not where[60:115, 38:42].any()  # one side is dashed


def test_segmentation_has_the_classes_colours_and_leaves_the_rest(tiny_scenes):
    metadata = MetadataCatalog.get(tiny_scenes[1])
    image = np.full((4, 6, 3), 100, np.uint8)
    labels = np.zeros((4, 6), np.int64)
    labels[:2], labels[:, 5] = 3, 255
    picture = draw_segmentation(image, labels, metadata, alpha=0.5, scale=2)
    assert picture.shape == (8, 12, 3) and (picture[:, 10:] == 100).all()
    for rows, label in ((slice(0, 4), 3), (slice(4, 8), 0)):
        expected = 50 + np.array(metadata.stuff_colors[label]) / 2
        assert np.abs(picture[rows, :10] - expected).max() <= 1


def test_class_is_written_into_the_corner_in_the_colour_of_its_truth():
    image = np.full((60, 90, 3), 100, np.uint8)
    for is_right, channels in ((True, [1]), (False, [0]), (None, [0, 1, 2])):
        picture = draw_class(image, "cat 90%", is_right=is_right, scale=2)
        where = changed(picture, image, 2)
        assert where[:15, :40].any() and not where[30:].any() and not where[:, 60:].any()
        brightest = picture[:30, :80].max((0, 1))
        assert [i for i in range(3) if brightest[i] > 240] == channels


def test_grid_holds_every_picture(tmp_path):
    colors = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 0)]], np.uint8)
    rows = [[np.broadcast_to(color, (40, 60, 3)) for color in row] for row in colors]
    save_grid(str(tmp_path / "grid.png"), rows, ["left", "right"])
    picture = cv2.imread(str(tmp_path / "grid.png"))[..., ::-1]
    pixels = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert {tuple(color) for color in colors.reshape(-1, 3).tolist()} < pixels
