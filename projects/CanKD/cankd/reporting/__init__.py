from .attention_pictures import draw_attention
from .comparison import box_metrics_table, gap_closed
from .confusion import compare_confusion
from .curve_pictures import plot_runs
from .demo import run_demo
from .feature_pictures import QUANTITIES, draw_features
from .gradcam_pictures import draw_gradcam
from .method_comparison import Method, compare_methods, parse_method
from .models import choose_records, load_models
from .pictures import draw_data, draw_predictions
from .report import make_report
from .run_metrics import read_curves
