from .cell_store import read_grids
from .evaluation import corrupted_loader, evaluate_robustness
from .tables import compare_robustness
