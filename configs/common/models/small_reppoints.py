from .reppoints import model
from .small_dense_detector import small_dense_detector

model = small_dense_detector(model)
model.head.point_conv_dim = 64
model.point_base_scale = 2  # as the anchors of the other small detectors: objects of 16 to 32 pixels are P3's
model.head.start_on_grid = True  # 2,000 iterations end at 49 AP with it, at 43 without
