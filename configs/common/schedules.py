from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

adamw = get_config("common/optim.py").AdamW
adamw.lr = 2e-3
adamw.weight_decay = 1e-4

one_cycle = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_factor=0.04,
    warmup_length=0.2,
)
