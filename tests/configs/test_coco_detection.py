import pytest
import torch
from cankd import model_zoo
from cankd.engine import build_model
from cankd.modeling import inherit_weights
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from tests.tiny import batch, save_weights


@pytest.fixture(scope="module")
def teacher_weights(tmp_path_factory):
    """Stands in for the model zoo: random weights of a recipe's teacher, by detector."""
    saved = {}

    def weights(detector, config):
        if detector not in saved:
            model = instantiate(config.model.teacher.model)
            saved[detector] = save_weights(model, tmp_path_factory.mktemp(detector) / "teacher.pth")
        return saved[detector]

    return weights


@pytest.mark.parametrize("suffix", ["", "_inherit"])
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_recipe_trains_a_step(detector, suffix, teacher_weights):
    config = model_zoo.get_config(f"COCO-Detection/{detector}_R50_from_R101{suffix}.py")
    assert f"{detector}_R_101_FPN_3x" in config.model.teacher.weights
    config.train.device = "cpu"
    config.model.teacher.weights = teacher_weights(detector, config)
    model = build_model(config)
    assert len(model.student.backbone.bottom_up.res4) == 6
    assert len(model.teacher.model.backbone.bottom_up.res4) == 23
    if suffix:
        copied = inherit_weights(model.student, model.teacher.model, config.train.inherit)
        assert "backbone.fpn_lateral5.weight" in copied
        assert not any(name.startswith(("backbone.bottom_up", "proposal_generator")) for name in copied)
        expected = {"retinanet": "head.bbox_pred.weight", "faster_rcnn": "roi_heads.box_predictor.bbox_pred.weight"}
        assert expected[detector] in copied
    config.optimizer.params.model = model
    optimizer = instantiate(config.optimizer)
    with EventStorage():
        losses = model.train()(batch(size=128))
    assert all(loss.isfinite() for loss in losses.values())
    assert {f"loss_cankd_p{i}" for i in (3, 4, 5)} < losses.keys()
    sum(losses.values()).backward()
    bottom_up = model.student.backbone.bottom_up
    assert bottom_up.res3[0].conv1.weight.grad.any() and bottom_up.res2[0].conv1.weight.grad is None
    before = bottom_up.res3[0].conv1.weight.clone()
    optimizer.step()
    assert not torch.equal(before, bottom_up.res3[0].conv1.weight)


@pytest.mark.parametrize("name", ["retinanet_R50_from_R101", "faster_rcnn_R50_from_R101"])
def test_recipe_has_the_published_schedule(name):
    config = model_zoo.get_config(f"COCO-Detection/{name}.py")
    assert config.dataloader.train.total_batch_size == config.train.reference_batch_size == 4
    assert (config.optimizer.lr, config.optimizer.momentum, config.optimizer.weight_decay) == (0.005, 0.9, 1e-4)
    assert config.train.clip_gradients.max_norm == 35
    assert config.train.max_iter == 24 * 29317
    multiplier = instantiate(config.lr_multiplier)
    epochs = {0.0: 0.001, 1: 1, 15.9: 1, 16.1: 0.1, 21.9: 0.1, 22.1: 0.01}
    for epoch, expected in epochs.items():
        assert multiplier(epoch / 24) == pytest.approx(expected, rel=1e-3)
    warm = 500 / config.train.max_iter
    assert multiplier(warm * 0.5) == pytest.approx(0.5, abs=0.01) and multiplier(warm * 1.01) == 1
