from .costs import cost_table, count_config_costs
from .distillation_check import check_distillation
