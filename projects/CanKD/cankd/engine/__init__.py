from .checkpointing import DistillationCheckpointer
from .config import load_config
from .errors import report_mistakes
from .hooks import DistillationSchedule, GradientClipping
from .preflight import check_device, check_output_dir
from .trainer import DistillationTrainer
from .training import build_model, evaluate, student_of, test, train
