from detectron2.model_zoo import get_config

from .small_dense_detector import small_dense_detector

model = small_dense_detector(get_config("common/models/fcos.py").model)
