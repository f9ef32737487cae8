import pytest
from cankd import model_zoo
from cankd.engine import METHODS, build_model, distill, use_method
from cankd.modeling import CanKDHead, FGDHead, KDHead, MGDHead, PKDHead, SumOfHeads
from cankd.utils import UserError
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from tests.tiny import batch

RETINANET = "DigitScenes/retinanet_R10_from_R18.py"
RETINANET_R50 = "retinanet_R50_from_R101.py"
RETINANET_YACS = "COCO-Detection/retinanet_R_101_FPN_3x.yaml"


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


DENSE, RCNN_R50 = (
    "retinanet_R50_from_R101",
    "fcos_R50_from_R101",
    "reppoints_R50_from_X101",
), "faster_rcnn_R50_from_R101"
SEGMENTOR = "semantic_fpn_R18_from_R101"
FGD_LARGE = {"foreground": 1.6e-3, "background": 8e-4, "attention": 8e-4, "relation": 8e-6}


@pytest.mark.parametrize(
    "method, recipe, published",
    [
        *[("pkd", recipe, {"weight": 10.0}) for recipe in DENSE],
        ("pkd", RCNN_R50, {"weight": 6.0}),
        ("cwd", DENSE[0], {"weight": 5.0, "temperature": 1.0}),
        ("cwd", RCNN_R50, {"weight": 10.0, "temperature": 1.0}),
        ("cwd", SEGMENTOR, {"weight": 50.0, "temperature": 1.0}),
        ("cwd_logits", SEGMENTOR, {"weight": 3.0, "temperature": 4.0}),
        (
            "fgd",
            DENSE[0],
            {
                "temperature": 0.5,
                "term_weights": {"foreground": 1e-3, "background": 5e-4, "attention": 5e-4, "relation": 5e-6},
            },
        ),
        ("fgd", DENSE[1], {"temperature": 0.8, "term_weights": FGD_LARGE}),
        ("fgd", DENSE[2], {"temperature": 0.5, "term_weights": FGD_LARGE}),
        (
            "fgd",
            RCNN_R50,
            {
                "temperature": 0.5,
                "term_weights": {"foreground": 5e-5, "background": 2.5e-5, "attention": 5e-5, "relation": 5e-7},
            },
        ),
        *[("mgd", recipe, {"weight": 2e-5, "masked_fraction": 0.65}) for recipe in (DENSE[0], DENSE[2])],
        ("mgd", RCNN_R50, {"weight": 5e-7, "masked_fraction": 0.45}),
        ("mgd", SEGMENTOR, {"weight": 2e-5, "masked_fraction": 0.75}),
        (
            "fkd",
            DENSE[0],
            {
                "temperature": 0.1,
                "channel_mask": True,
                "term_weights": {"feature": 4.2e-4, "channel": 2.4e-2, "spatial": 2.4e-2, "relation": 4.2e-4},
            },
        ),
        (
            "fkd",
            RCNN_R50,
            {
                "temperature": 0.5,
                "channel_mask": False,
                "term_weights": {"feature": 7e-5, "channel": 4e-3, "spatial": 4e-3, "relation": 7e-5},
            },
        ),
        *[
            (
                "detkds",
                recipe,
                {"first": "catt", "second": "scale_r2", "third": "norm_N", "distance": "l1", "weight": weight},
            )
            for recipe, weight in ((DENSE[0], 6.0), (DENSE[1], 5.0), (DENSE[2], 10.0), (RCNN_R50, 2.0))
        ],
        ("kd", SEGMENTOR, {"sigmoid": False, "temperature": 1.0, "weight": 10.0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_published_settings(method, recipe, published):
    folder = "Cityscapes-SemanticSegmentation" if recipe == SEGMENTOR else "COCO-Detection"
    head = instantiate(use_method(model_zoo.get_config(f"{folder}/{recipe}.py"), method).model.head)
    assert {name: getattr(head, name) for name in published} == {
        name: pytest.approx(value) if isinstance(value, float | dict) else value for name, value in published.items()
    }


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


def test_the_configs_own_method_stays_as_it_is(quick_config):
    config = quick_config(RETINANET)
    config.model.head = L(FGDHead)(levels=["p4"], temperature=0.7)
    own = instantiate(use_method(config, "own").model.head)
    assert isinstance(own, FGDHead) and (own.levels, own.temperature) == (("p4",), 0.7)
    config.model.head = L(SumOfHeads)(heads=[config.model.head], weight=0.1)
    assert instantiate(use_method(config, "own").model.head).weight == 0.1
    with pytest.raises(ValueError, match="own method is a sum with a weight"):
        use_method(config, "own+kd")
    config.model.head.weight = 1
    config = use_method(use_method(config, "own+kd"), "own")
    assert [type(head) for head in instantiate(config.model.head).heads] == [FGDHead, KDHead]
    with pytest.raises(ValueError, match="there is no method 'own'"):
        use_method(config, "own_published")


def test_alone_and_inheriting(quick_config):
    config = quick_config("DigitScenes/retinanet_R10_from_R18_inherit.py")
    assert use_method(config, "cankd").train.inherit is None
    assert use_method(config, "pkd_inherit").train.inherit == ["backbone.fpn_output*", "head.*"]
    alone = use_method(config, "alone_inherit")
    assert alone.train.inherit and alone.model.head.weight == 0
    assert use_method(quick_config(RETINANET), "pkd_inherit").train.inherit == "auto"


FIVE = ["p3", "p4", "p5", "p6", "p7"]
RCNN = ["p2", "p3", "p4", "p5", "p6"]


@pytest.mark.parametrize(
    "recipe, levels",
    [
        ("retinanet_R50_from_R101", {"cankd": 4, "pkd": 4, "cwd": 4, "fgd": 5, "mgd": 5, "fkd": 5, "detkds": 5}),
        ("fcos_R50_from_R101", {"fgd": 5}),
        ("reppoints_R50_from_X101", {"pkd": 4, "mgd": 5}),
        ("faster_rcnn_R50_from_R101", {"cankd": 4, "pkd": 4, "cwd": 5, "fgd": 4, "mgd": 4, "fkd": 5, "detkds": 4}),
    ],
)
def test_published_levels_of_detectors(recipe, levels):
    config = model_zoo.get_config(f"COCO-Detection/{recipe}.py")
    pyramid = RCNN if recipe.startswith("faster") else FIVE
    heads = {method: instantiate(use_method(config, f"{method}_published").model.head) for method in levels}
    assert {method: list(head.levels) for method, head in heads.items()} == {m: pyramid[:n] for m, n in levels.items()}
    assert instantiate(use_method(config, "pkd").model.head).levels == ("p3", "p4", "p5")  # without it, the recipe's


@pytest.mark.parametrize("method, inherits", [("fgd", True), ("detkds", True), ("mgd", False), ("pkd", False)])
def test_published_methods_inherit_where_they_do(method, inherits):
    name = f"{method}_published"
    plain, inheriting, cascade = (
        model_zoo.get_config(f"COCO-Detection/faster_rcnn_R50_from_{teacher}.py")
        for teacher in ("R101", "R101_inherit", "cascade_X101")
    )
    assert use_method(plain, name).train.inherit == ("auto" if inherits else None)
    assert use_method(inheriting, name).train.inherit == (inheriting.train.inherit if inherits else None)
    assert use_method(cascade, name).train.inherit is None
    assert use_method(cascade, f"{name}_inherit").train.inherit == "auto"
    assert (use_method(model_zoo.get_config(f"COCO-Detection/{RETINANET_R50}"), name).train.inherit == "auto") == (
        method != "pkd"
    )


def test_published_segmentors_and_yacs_students(quick_config):
    config = quick_config("DigitScenes/pspnet_R10_from_R18.py")
    mgd, cwd = instantiate(use_method(config, "mgd_published").model.head).heads
    assert (mgd.levels, mgd.weight, mgd.masked_fraction) == (("res5",), 2e-5, 0.75)
    assert (cwd.levels, cwd.weight, cwd.temperature) == (("sem_seg_head.predictor",), 3.0, 4.0)
    own = use_method(config, "cankd_published").model.head
    assert own == config.model.head

    yacs = distill("COCO-Detection/retinanet_R_50_FPN_1x.yaml", teacher=RETINANET_YACS, weights="teacher.pth")
    assert list(use_method(yacs, "pkd_published").model.head.levels) == FIVE[:4]


def test_refuses_what_is_not_published(quick_config):
    for name, recipe, known in (("at", RETINANET, "Classifier"), ("linear", RETINANET, "none")):
        with pytest.raises(ValueError, match=f"{name} is not published for RetinaNet .but for: {known}.: leave"):
            use_method(quick_config(recipe), f"{name}_published")
    with pytest.raises(ValueError, match="there is no method 'canckd'"):
        use_method(quick_config(RETINANET), "canckd_published")


def test_refuses_what_cannot_be(quick_config):
    with pytest.raises(ValueError, match="there is no method 'canckd'; there are alone, own, cankd, "):
        use_method(quick_config(RETINANET), "canckd")
    with pytest.raises(ValueError, match="this one describes a plain model"):
        use_method(quick_config("DigitScenes/retinanet_R10.py"), "cankd")
    with pytest.raises(ValueError, match="kd compares class logits .* none are known of GeneralizedRCNN"):
        use_method(quick_config("DigitScenes/faster_rcnn_R10_from_R18.py"), "kd")
    with pytest.raises(ValueError, match="cwd_logits compares class logits .* none are known of Classifier.* for kd"):
        use_method(quick_config(CLASSIFIER), "cwd_logits")


@pytest.mark.parametrize("name", ["kd", "cankd_published"])
def test_refuses_levels_that_a_config_leaves_to_the_model(quick_config, name):
    config = quick_config(RETINANET)
    config.model.student.head_in_features = None
    with pytest.raises(UserError, match="model.student.head_in_features has to name the levels"):
        use_method(config, name)


def test_a_published_setting_is_added_once(quick_config):
    config = quick_config("DigitScenes/pspnet_R10_from_R18.py")
    head = instantiate(use_method(config, "mgd+cwd_logits_published").model.head)
    assert [type(part).__name__ for part in head.heads] == ["MGDHead", "CWDHead"]


def test_levels_of_a_sum_are_those_of_its_features(quick_config):
    config = quick_config(RETINANET)
    config.model.head.levels = ["p3", "p4"]
    assert instantiate(use_method(use_method(config, "kd+cankd"), "fgd").model.head).levels == ("p3", "p4")
    assert use_method(use_method(config, "kd"), "pkd").model.head.levels is None  # the distiller chooses
    del config.model.student.head_in_features  # a model need not say them
    assert instantiate(use_method(config, "pkd").model.head).levels == ("p3", "p4")


@pytest.mark.parametrize("method", ["cankd", "mgd", "diffkd"])
def test_a_classifiers_recipe_on_logits_takes_methods_on_features(quick_config, method):
    config = use_method(use_method(quick_config(CLASSIFIER), "kd"), method)
    config.model.teacher.weights = None
    pair, *_ = build_model(config).pairs
    assert pair.student == "res5"


@pytest.mark.parametrize("recipe, weight", [("fcos_R50_from_R101", 10.0), ("faster_rcnn_R50_from_R101", 6.0)])
def test_pkd_has_one_weight_for_dense_detectors(recipe, weight):
    config = model_zoo.get_config(f"COCO-Detection/{recipe}.py")
    assert instantiate(use_method(config, "pkd").model.head).weight == weight
