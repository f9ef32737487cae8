from .cascade_rcnn import model
from .small_faster_rcnn import small_rcnn

model = small_rcnn(model)
