import contextlib
import shutil

import pytest
from cankd.data import imagenet_classes, load_records, register_image_folders
from cankd.data.checks import check_classes, check_image_classes, check_records
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from PIL import Image
from torch import nn


@pytest.fixture
def folders(tmp_path):
    """Registers two classes of two and one empty files a split; they are not images, as nobody opens them."""
    for split in ("train", "val"):
        for path in ("cat/b.JPEG", "cat/a.png", "dog/c.jpg", "dog/notes.txt", "notes.txt"):
            (tmp_path / split / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / split / path).touch()
    register_image_folders("pets", str(tmp_path))
    yield tmp_path
    for name in ("pets_train", "pets_val"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def load(name="pets_train"):
    return load_records(L(get_detection_dataset_dicts)(names=name, filter_empty=False))


def test_lists_images_class_by_class_in_turn(folders):
    records = load("pets_val")
    paths = [(str(folders / "val" / "cat/a.png"), 0), (str(folders / "val" / "dog/c.jpg"), 1)]
    paths.append((str(folders / "val" / "cat/b.JPEG"), 0))
    assert [(record["file_name"], record["label"]) for record in records] == paths
    assert MetadataCatalog.get("pets_val").image_classes == ["cat", "dog"]


def test_refuses_a_folder_without_classes(folders):
    for path in [*(folders / "train").glob("*/*"), *(folders / "train").glob("*")]:
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(ValueError, match="train has no classes: it has to have one folder of images a class"):
        load()
    (folders / "train").rmdir()
    with pytest.raises(ValueError, match="there is no folder .*train: it has to have one folder of images a class"):
        load()


def test_refuses_a_class_without_images(folders):
    (folders / "train" / "dog" / "c.jpg").unlink()
    with pytest.raises(ValueError, match=r"train/dog has no image \(.jpg, .*\): a class without images is none"):
        load()


@pytest.mark.parametrize("name", ["pets_train", "pets_val"])
def test_refuses_other_classes_in_train_and_val(folders, name):
    (folders / "val" / "dog").rename(folders / "val" / "fox")
    with pytest.raises(ValueError, match="2 classes in one of train and val only, the first is 'dog'"):
        load(name)


def test_refuses_more_classes_than_the_model_has(folders):
    model = nn.Module()
    model.num_classes = 1
    with pytest.raises(ValueError, match="the data has 2 classes, but the model predicts 1: set num_classes"):
        check_classes(load(), model)


@pytest.mark.parametrize("num_classes, message", [(3, "has 2 classes, but the model predicts 3"), (2, ""), (None, "")])
def test_refuses_a_model_of_more_classes(folders, num_classes, message):
    model, dataset = nn.Module(), L(get_detection_dataset_dicts)(names="pets_val")
    model.num_classes = num_classes
    load("pets_val")
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        check_image_classes({"train": {"dataset": dataset}}, model)


def test_refuses_sets_of_different_classes(folders):
    (folders / "others").mkdir()
    for split in ("train", "val"):
        shutil.copytree(folders / split, folders / "others" / split)
        (folders / "others" / split / "dog").rename(folders / "others" / split / "fox")
    register_image_folders("others", str(folders / "others"))
    datasets = [L(get_detection_dataset_dicts)(names=names) for names in (["pets_train"], "others_val")]
    for dataset in datasets:
        load(dataset.names)
    data = {split: {"dataset": dataset} for split, dataset in zip(("train", "test"), datasets)}
    check_image_classes(data, nn.Module())  # nothing is evaluated
    with pytest.raises(ValueError, match="pets_train .* class 1 is 'dog' in the one and 'fox' in the other"):
        check_image_classes({**data, "evaluator": object()}, nn.Module())


def test_refuses_two_classes_of_one_name(folders):
    register_image_folders("pets", str(folders), class_names=["crane", "crane"])
    with pytest.raises(ValueError, match="pets_train has two classes of the name 'crane'"):
        load()


def test_hidden_files_are_no_images(folders):
    (folders / "train" / "cat" / "._a.png").touch()
    assert len(load()) == 3


def test_broken_images_are_looked_for_if_asked(folders):
    records, dataset = load(), L(get_detection_dataset_dicts)(names="pets_train")
    Image.new("RGB", (9, 9)).save(records[0]["file_name"])
    assert check_records(records, dataset, None) is records
    assert check_records(records, dataset, None, skip_broken=True) == records[:1]
    with pytest.raises(ValueError, match="pets_train has 2 images that cannot be used, of 3"):
        check_records(records, dataset, None, read_all_images=True)


def test_val_alone_will_do(folders):
    (folders / "train").rename(folders / "elsewhere")
    assert len(load("pets_val")) == 3


@pytest.mark.parametrize("names, expected", [(["Felis", "Canis"], ["Felis", "Canis"]), (["tench"], ["cat", "dog"])])
def test_classes_have_other_names_where_these_are_as_many(folders, names, expected):
    load()
    register_image_folders("pets", str(folders), class_names=names)
    load()
    assert MetadataCatalog.get("pets_train").image_classes == expected


def test_imagenet_is_registered():
    assert {"imagenet_train", "imagenet_val"} <= set(DatasetCatalog)


def test_opens_no_image(folders, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("opened"))
    assert len(load()) == 3


def test_names_that_are_known_need_no_folder(tmp_path):
    asked = []
    register_image_folders("elsewhere", str(tmp_path / "absent"), class_names=lambda: asked.append(1) or ["Felis"])
    assert not asked  # before they are needed
    with pytest.raises(ValueError, match="there is no folder"):
        load("elsewhere_val")
    assert MetadataCatalog.get("elsewhere_val").image_classes == ["Felis"]
    for name in ("elsewhere_train", "elsewhere_val"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_imagenets_classes_have_names():
    assert len(imagenet_classes()) == 1000 and imagenet_classes()[281] == "tabby"
