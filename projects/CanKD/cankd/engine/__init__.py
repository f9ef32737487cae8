from .arguments import PictureArgumentParser, named_path
from .attention_pictures import draw_attention
from .cell_store import read_grids
from .checkpointing import DistillationCheckpointer, export_weights
from .comparison import comparison_table, gap_closed
from .config import load_config
from .confusion import compare_confusion
from .costs import cost_table, count_config_costs
from .curve_pictures import plot_runs
from .demo import run_demo
from .distillation_check import check_distillation
from .errors import report_mistakes
from .feature_pictures import QUANTITIES, draw_features
from .hooks import DistillationSchedule, GradientClipping, ProgressBar
from .launch import launch
from .models import choose_records, load_models
from .pictures import draw_comparison, draw_data, draw_predictions
from .preflight import prepare_run
from .report import make_report
from .robustness import corrupted_loader, evaluate_robustness
from .robustness_tables import compare_robustness
from .run_metrics import read_curves
from .schedules import PolynomialDecay
from .trainer import DistillationTrainer
from .training import build_model, evaluate, student_of, test, train
