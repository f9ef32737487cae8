import pytest
import torch
from cankd.modeling import StepContext
from cankd.modeling.distillation_heads.box_masks import box_masks
from cankd.modeling.distillation_heads.fgd_head import FGDHead
from detectron2.structures import Boxes, Instances, RotatedBoxes
from detectron2.utils.events import EventStorage

from tests import published
from tests.tiny import batch, distiller


def context(boxes, sizes, stride=8):
    records = []
    for corners, size in zip(boxes, sizes):
        instances = Instances(size, gt_boxes=Boxes(corners))
        records.append({"image": torch.zeros(3, *size, dtype=torch.uint8), "instances": instances})
    return StepContext(records, {"p3": stride})


def reference_context(data):
    sizes = [tuple(size) for size in data["image_sizes"].tolist()]
    return context([data[f"boxes_{i}"] for i in range(len(sizes))], sizes)


@pytest.mark.parametrize("name", ["fgd", "fgd_adapter"])
@pytest.mark.parametrize("dtype, tolerance", published.DTYPES, ids=str)
def test_equals_the_reference(name, dtype, tolerance):
    """The published implementation's values."""
    data = published.load(name)
    head = FGDHead(temperature=data["temperature"].item(), **published.arguments(data))
    weights = {term: data[f"weight_{term}"] for term in head.terms}
    published.assert_equals(head, data, dtype, tolerance, reference_context(data), weights)


@pytest.mark.parametrize("name", ["fgd", "fgd_adapter"])
def test_masks_equal_the_reference(name):
    data = published.load(name)
    foreground, background = box_masks(reference_context(data), "p3", data["teacher"])
    torch.testing.assert_close(foreground.squeeze(1), data["mask_foreground"], rtol=1e-12, atol=0)
    torch.testing.assert_close(background.squeeze(1), data["mask_background"], rtol=1e-12, atol=0)


def test_masks_by_hand():
    """Cells of 10 pixels: of two boxes that overlap the smaller counts; an image may have none, or no background."""
    boxes = [[[0.0, 0, 20, 10], [12, 1, 15, 9]], [], [[0.0, 0, 40, 20]]]
    step = context([torch.tensor(b).reshape(-1, 4) for b in boxes], [(20, 40)] * 3)
    foreground, background = box_masks(step, "p3", torch.zeros(3, 1, 2, 4))
    # 0 to 20 and 0 to 10, ends included, are 3 × 2 cells; 1.2 to 1.5 and 0.1 to 0.9 are 2 × 2.
    small, large = 1 / 4, 1 / 6
    torch.testing.assert_close(foreground[0, 0], torch.tensor([[large, small, small, 0], [large, small, small, 0]]))
    torch.testing.assert_close(background[0, 0], torch.tensor([[0, 0, 0, 0.5], [0, 0, 0, 0.5]]))
    assert not foreground[1].any() and (background[1] == 1 / 8).all()
    torch.testing.assert_close(foreground[2], torch.full((1, 2, 4), 1 / 15))  # 5 × 3 before the map cuts them off
    assert not background[2].any()


def test_masks_by_stride_stay_where_the_image_is():
    """An image half as wide as the batch: the published masks are stretched over its padding."""
    step = context([torch.tensor([[1.0, 1, 15, 31]])], [(32, 32)], stride=8)
    like = torch.zeros(1, 1, 4, 8)
    published_way, _ = box_masks(step, "p3", like)
    by_stride, _ = box_masks(step, "p3", like, by_stride=True)
    assert published_way[0, 0].any(0).tolist() == [True] * 5 + [False] * 3
    assert by_stride[0, 0].any(0).tolist() == [True] * 3 + [False] * 5


def test_boxes_by_stride_reach_the_loss():
    head = FGDHead(levels=["p3"], in_channels=4, boxes_by_stride=True)
    student, teacher = torch.randn(1, 4, 4, 8), torch.randn(1, 4, 4, 8)
    step = context([torch.tensor([[1.0, 1, 15, 31]])], [(32, 32)])
    mended = head({"p3": student}, {"p3": teacher}, step)
    head.boxes_by_stride = False
    assert mended["loss_fgd_foreground_p3"] != head({"p3": student}, {"p3": teacher}, step)["loss_fgd_foreground_p3"]


def test_starts_as_published():
    """Context blocks add nothing at first; what their masks start from has the deviation sqrt(2 / C)."""
    head = FGDHead(levels=["p3"], in_channels=1000)
    x = torch.randn(2, 1000, 3, 4)
    for block in (head.student_context["p3"], head.teacher_context["p3"]):
        assert not block(x).any() and not block.mask.bias.any()
        assert block.mask.weight.std().item() == pytest.approx((2 / 1000) ** 0.5, rel=0.1)
        assert block.reduce.weight.abs().max().item() == pytest.approx(1 / 1000**0.5, rel=0.01)
        assert block.norm.weight.shape == (500, 1, 1) and (block.norm.weight == 1).all()
    assert sum(p.numel() for p in FGDHead(levels=["p3"], in_channels=256).parameters()) == 132_866


def test_trains_through_a_distiller(tmp_path):
    model = distiller(tmp_path, head=FGDHead()).train()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.01)
    for step in range(2):  # at first expand is zero, and nothing before it has a gradient
        with EventStorage(step):
            losses = model(batch(seed=step))
        assert set(model.head.loss_names) <= losses.keys() and len(model.head.loss_names) == 12
        optimizer.zero_grad()
        sum(loss for name, loss in losses.items() if "fgd" in name).backward()
        optimizer.step()
    assert all(loss.isfinite() for loss in losses.values())
    assert model.student.backbone.fpn_output3.weight.grad.any()
    # A bias shifts all positions of a mask alike: softmax cancels it.
    for name, parameter in model.head.named_parameters():
        assert parameter.grad is not None and (parameter.grad.any() or name.endswith("mask.bias")), name


IMAGE = {"image": torch.zeros(3, 32, 32)}
WITHOUT_BOXES = {
    "no context": None,
    "no records": StepContext([], {"p3": 8}),
    "no instances": StepContext([IMAGE], {"p3": 8}),
    "no boxes": StepContext([IMAGE | {"instances": Instances((32, 32))}], {"p3": 8}),
    "no image": StepContext([{"instances": Instances((32, 32), gt_boxes=Boxes(torch.zeros(0, 4)))}], {"p3": 8}),
}


@pytest.mark.parametrize("step", WITHOUT_BOXES.values(), ids=WITHOUT_BOXES)
def test_refuses_a_batch_without_boxes(step):
    head = FGDHead(levels=["p3"], in_channels=4)
    features = {"p3": torch.randn(1, 4, 4, 4)}
    with pytest.raises(ValueError, match="level 'p3' is weighed by ground-truth boxes, but not every image"):
        head(features, features, step)


def test_refuses_what_it_cannot_compare():
    head = FGDHead(levels=["p3"], in_channels=4, boxes_by_stride=True)
    with pytest.raises(ValueError, match="level 'p3' is no map of positions, which fgd compares: use KDHead"):
        head({"p3": torch.randn(2, 4)}, {"p3": torch.randn(2, 4)})
    features = {"p3": torch.randn(1, 4, 4, 4)}
    rotated = context([torch.zeros(0, 4)], [(32, 32)])
    rotated.batch[0]["instances"].gt_boxes = RotatedBoxes(torch.zeros(0, 5))
    with pytest.raises(ValueError, match="which have to be upright: these are rotated"):
        head(features, features, rotated)
    with pytest.raises(ValueError, match="the stride of level 'p3', which is unknown"):
        head(features, features, context([torch.zeros(0, 4)], [(32, 32)], stride=None))
    with pytest.raises(ValueError, match="FGD halves the channels of level 'p3', but it has one"):
        FGDHead(levels=["p3"], in_channels=1)


@pytest.mark.parametrize("arguments", [{"temperature": 0.0}, {"weight_relation": -1.0}])
def test_refuses_arguments(arguments):
    with pytest.raises(ValueError, match="FGD's temperature is .* above 0, and its weights are .* 0 or more"):
        FGDHead(**arguments)
