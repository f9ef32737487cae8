from .distillation_checkpointer import DistillationCheckpointer, export_weights
from .inheritance import inherit_weights
from .weights import LoadReport, VerifyingCheckpointer, check_checkpoint, load_all_weights, read_weights
