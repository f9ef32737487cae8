"""Grad-CAM: where in an image a model sees a class (supplement, figure 7)."""

import contextlib
import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from cankd.data import metadata_of, num_classes_of
from cankd.engine import test_data
from cankd.modeling import FeatureSource, backbone_shapes
from cankd.utils import UserError, make_output_dir, write_json
from cankd.visualization import HeatMap, draw_heatmaps
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from .feature_pictures import feature_sources, picture_path
from .models import LoadedModel

__all__ = ["draw_gradcam"]


def draw_gradcam(
    models: Mapping[str, LoadedModel],
    config: DictConfig,
    records: Sequence[dict],
    output_dir: str,
    *,
    levels: Sequence[str] = (),
    class_name: str = "",
    class_index: int | None = None,
) -> list[str]:
    """Draws Grad-CAM (Selvaraju et al. 2017) of several models over images, by the package grad-cam.

    Of a classifier, the logit of a class is explained; of a detector, the score of its surest detection. That depends
    on few positions of a level, so that its gradient is not averaged over all of them but multiplied with the feature
    position by position (the package's GradCAMElementWise).

    Args:
        models: map from title to model, as :func:`load_models` gives them.
        config: of a distiller or of a plain model.
        records: the images, in Detectron2's format.
        output_dir: gets a PNG for each image, and a JSON with the classes and their scores.
        levels: the student's names; all maps that its backbone returns if there are none.
        class_name, class_index: the class to explain, one of the two; by default the one that each model predicts.

    Returns:
        The PNG files.

    Raises:
        UserError: if grad-cam is not installed, a level or a class does not exist, a detector finds nothing, or the
            score does not depend on any of the levels.
    """
    _import_grad_cam()
    metadata = metadata_of(test_data(config).dataset)
    names = metadata.get("image_classes") or metadata.get("thing_classes") or []
    category = _find_class(models, names, class_name, class_index)
    first = next(iter(models.values()))  # all read an image alike
    shapes = backbone_shapes(first.model)
    sources = feature_sources(config, models, levels or [name for name, shape in shapes.items() if shape.stride])
    make_output_dir(output_dir)
    paths = []
    for record in tqdm(records, "Drawing", unit="image", leave=False, disable=None):
        rows, numbers = defaultdict(dict), {}
        for title, loaded in models.items():
            (data,) = loaded.read([record])
            explained = _Explained(loaded.model, sources[title].source, title, data, category)
            name = loaded.name_class(explained.category, names)
            numbers[title] = {"class": name, "index": explained.category, "score": explained.confidence}
            stride = 1 / loaded.teacher.scale if loaded.teacher else 1  # the maps have the size that the model saw
            column = f"{title}\n{name} {explained.confidence:.0%}"
            for level, name_in_model in sources[title].names.items():
                is_explained = name_in_model in explained.levels
                rows[level][column] = HeatMap(explained.compute_map(name_in_model), stride) if is_explained else None
        path = picture_path(output_dir, record, "gradcam", paths)
        rows = {level: maps for level, maps in rows.items() if any(maps.values())}
        draw_heatmaps(path, first.rgb(record), rows, label="Grad-CAM")
        write_json(f"{path.removesuffix('.png')}.json", {"image": record["file_name"], "classes": numbers})
        paths.append(path)
    return paths


def _import_grad_cam():
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise UserError("Grad-CAM needs the package grad-cam: pip install 'cankd[gradcam]' (or grad-cam)") from error
    return pytorch_grad_cam


def _find_class(models, names, name, index):
    """Returns the number of the class that is asked for, None if none is."""
    if name and index is not None:
        raise UserError(f"the class is given twice, as {name!r} and as {index}: one of the two will do")
    if name:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3) or names[:5]
            raise UserError(f"there is no class {name!r}; near it are {', '.join(close)}")
        index = names.index(name)
    for title, loaded in models.items() if index is not None else ():
        num_classes = num_classes_of(loaded.model) or index + 1
        if not 0 <= index < num_classes:
            raise UserError(f"the class is number {index}, but the {title} predicts {num_classes}, from 0")
    return index


class _Explained(nn.Module):
    """A model as grad-cam takes it: its one layer is the level that is looked at, its output the score to explain."""

    def __init__(self, model, source, title, data, category):
        """
        Args:
            model: a classifier or a detector, in evaluation mode.
            source: of its levels.
            title: what the model is, for messages.
            data: the record, as the model takes it.
            category: the class, None for the one that is predicted.

        Raises:
            UserError: see :func:`draw_gradcam`.
        """
        super().__init__()
        self.model = model
        self.layer = nn.Identity()
        self._source = source
        self._logits = FeatureSource(model, ["classifier"]) if hasattr(model, "classifier") else None
        self._title = title
        self._data = data
        self.category = category
        self._level = None
        (score, self.category, self.confidence), features = self._run(data["image"])
        gradients = torch.autograd.grad(score, list(features.values()), allow_unused=True)
        self.levels = {
            level: feature.shape[2:]
            for (level, feature), gradient in zip(features.items(), gradients)
            if gradient is not None and gradient.any()
        }
        """Height and width of those levels that the score depends on."""
        if not self.levels:
            raise UserError(
                f"the score of the {title} depends on none of {', '.join(features)}: choose other levels by --levels. "
                "The blocks of a vision transformer are no maps, so that Grad-CAM does not work on them"
            )

    def compute_map(self, level: str) -> np.ndarray:
        """Returns a level's Grad-CAM, ``(H, W)``, in the image's pixels, from 0 to 1."""
        self._level = level
        stride = self._source.output_shape()[level].stride
        height, width = self._data["image"].shape[1:]
        # The map covers the padding, too, to which grad-cam is to scale it.
        covered = [max(0, stride * side - of_image) for side, of_image in zip(self.levels[level], (height, width))]
        image = F.pad(self._data["image"], (0, covered[1], 0, covered[0]))
        grad_cam = _import_grad_cam()
        method = grad_cam.GradCAM if self._logits else grad_cam.GradCAMElementWise
        cam = method(model=self, target_layers=[self.layer])
        targets = [grad_cam.utils.model_targets.RawScoresOutputTarget()]
        try:
            return cam(input_tensor=image[None], targets=targets)[0, :height, :width]
        finally:
            cam.activations_and_grads.release()

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = self._data["image"].shape[1:]
        explained, features = self._run(images[0, :, :height, :width])
        self.layer(features[self._level])
        return [explained.score]

    def _run(self, image):
        image = image.float().requires_grad_()  # so that frozen models have gradients
        logits = self._logits.record() if self._logits else contextlib.nullcontext()
        with self._source.record() as features, logits as found:
            output = self.model([{**self._data, "image": image}])[0]
        if self._logits:
            return _explain_class(output, found["classifier"][0], self.category), features
        if "instances" in output:
            return self._explain_detection(output["instances"]), features
        raise UserError(
            f"the {self._title} is a {type(self.model).__name__}: Grad-CAM explains classifiers and detectors alone"
        )

    def _explain_detection(self, found):
        if self.category is not None:
            found = found[found.pred_classes == self.category]
        if not len(found):
            raise UserError(f"the {self._title} detects nothing of the class in {self._data['file_name']}")
        best = found[int(found.scores.argmax())]
        return _Explanation(best.scores[0], int(best.pred_classes[0]), best.scores[0].item())


class _Explanation(NamedTuple):
    score: Tensor
    category: int
    confidence: float


def _explain_class(output, logits, category):
    if category is None:
        category = int(output["classes"][0])
    return _Explanation(logits[category], category, output["scores"][output["classes"] == category].item())
