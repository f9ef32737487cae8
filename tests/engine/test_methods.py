import pytest
from cankd.engine import METHODS, build_model, use_method
from cankd.modeling import CanKDHead, FGDHead, KDHead, MGDHead, PKDHead, SumOfHeads
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from tests.tiny import batch

RETINANET = "DigitScenes/retinanet_R10_from_R18.py"


@pytest.mark.parametrize("name", [*METHODS, "cankd+kd"])
def test_every_method_trains_a_retinanet(quick_config, name):
    config = use_method(quick_config(RETINANET), name)
    model = build_model(config).train()
    with EventStorage():
        losses = model(batch(size=128))
    assert set(model.head.loss_names) < losses.keys() and model.head.loss_names
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


@pytest.mark.parametrize("name", ["kd", "cwd_logits", "cankd+cwd_logits", "mgd"])
def test_methods_train_a_segmentor(quick_config, name):
    model = build_model(use_method(quick_config("DigitScenes/semantic_fpn_R10_from_R18.py"), name)).train()
    with EventStorage():
        losses = model(batch(size=128))
    assert set(model.head.loss_names) < losses.keys()


CLASSIFIER = "DigitPatches/R18_from_R34.py"


@pytest.mark.parametrize("name", ["cankd", "pkd", "at", "mgd", "kd", "diffkd", "cankd+kd"])
def test_methods_train_a_classifier(quick_config, name):
    config = use_method(quick_config(CLASSIFIER), name)
    config.model.teacher.weights = None
    model = build_model(config).train()
    with EventStorage():
        losses = model([{**record, "label": i} for i, record in enumerate(batch(size=128))])
    assert {"loss_cls", *model.head.loss_names} == losses.keys()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


def test_classifiers_have_their_published_settings(quick_config):
    heads = {n: instantiate(use_method(quick_config(CLASSIFIER), n).model.head) for n in ("kd", "at", "mgd", "diffkd")}
    kd, at, mgd = heads["kd"], heads["at"], heads["mgd"]
    assert (kd.levels, kd.weight, kd.temperature, kd.sigmoid) == (("classifier",), 3.0, 1.0, False)
    assert (at.levels, at.weight) == (("res2", "res3", "res4", "res5"), 1000.0)
    assert (mgd.levels, mgd.weight, mgd.masked_fraction, mgd.mask_channels) == (("res5",), 7e-5, 0.15, True)
    maps, logits = heads["diffkd"].heads
    assert (maps.levels, maps.latent_channels, maps.logits) == (("res5",), 1024, False)
    assert (logits.levels, logits.latent_channels, logits.logits) == (("classifier",), None, True)


def test_settings_are_those_of_the_architecture(quick_config):
    config = quick_config("DigitScenes/faster_rcnn_R10_from_R18.py")
    assert instantiate(use_method(config, "pkd").model.head).weight == 6.0
    head = instantiate(use_method(config, "mgd").model.head)
    assert isinstance(head, MGDHead) and (head.weight, head.masked_fraction) == (5e-7, 0.45)
    config = quick_config(RETINANET)
    head = instantiate(use_method(config, "pkd").model.head)
    assert isinstance(head, PKDHead) and head.weight == 10.0
    head = instantiate(use_method(config, "fgd").model.head)
    assert isinstance(head, FGDHead) and head.term_weights["attention"] == 5e-4


def test_levels_and_the_own_methods_options_are_the_configs(quick_config):
    config = quick_config(RETINANET)
    config.model.head.update(levels=["p4"], weight=2.5, pool_size=1)
    own = instantiate(use_method(config, "cankd").model.head)
    assert (own.levels, own.weight, own.pool_size) == (("p4",), 2.5, 1)
    both = instantiate(use_method(config, "cankd+kd").model.head)
    assert isinstance(both, SumOfHeads)
    assert [type(head) for head in both.heads] == [CanKDHead, KDHead]
    assert both.levels == ("p4", "head:0:0", "head:0:1", "head:0:2")
    assert config.model.head.weight == 2.5 and "heads" not in config.model.head  # it stays as it is


def test_alone_and_inheriting(quick_config):
    config = quick_config("DigitScenes/retinanet_R10_from_R18_inherit.py")
    assert use_method(config, "cankd").train.inherit is None
    assert use_method(config, "pkd_inherit").train.inherit == ["backbone.fpn_output*", "head.*"]
    alone = use_method(config, "alone_inherit")
    assert alone.train.inherit and alone.model.head.weight == 0
    assert use_method(quick_config(RETINANET), "pkd_inherit").train.inherit == "auto"


def test_refuses_what_cannot_be(quick_config):
    with pytest.raises(ValueError, match="there is no method 'canckd'; there are alone, cankd, "):
        use_method(quick_config(RETINANET), "canckd")
    with pytest.raises(ValueError, match="this one describes a plain model"):
        use_method(quick_config("DigitScenes/retinanet_R10.py"), "cankd")
    with pytest.raises(ValueError, match="kd compares class logits .* none are known of GeneralizedRCNN"):
        use_method(quick_config("DigitScenes/faster_rcnn_R10_from_R18.py"), "kd")
    with pytest.raises(ValueError, match="cwd_logits compares class logits .* none are known of Classifier.* for kd"):
        use_method(quick_config(CLASSIFIER), "cwd_logits")
