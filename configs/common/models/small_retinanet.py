from detectron2.model_zoo import get_config

from .small_dense_detector import small_dense_detector

model = small_dense_detector(get_config("common/models/retinanet.py").model)
model.anchor_generator.sizes = [[x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)] for x in (16, 32, 64)]
model.anchor_generator.strides = [8, 16, 32]
