from .build import (
    build_loader,
    build_mapper,
    build_model,
    build_optimizer,
    build_part,
    build_teacher,
    is_distillation,
    load_student,
    read_format,
    student_of,
    teacher_model,
    test_data,
)
from .config import apply_overrides, load_config
from .config_file import find_config_file, read_config
from .config_text import config_yaml, describe_config, save_config
from .distillation_config import distill
from .hooks import DistillationSchedule, GradientClipping, ProgressBar
from .launch import launch
from .measurements import StepMeasurements, measure_step, time_step
from .methods import METHODS, MethodSettings, is_method, use_method
from .preflight import (
    check_batch_size,
    check_checkpoints,
    check_device,
    check_output_dir,
    check_parts,
    lock_output_dir,
    prepare_run,
)
from .process_pool import run_in_processes
from .result_fingerprint import (
    changed_fingerprints,
    code_fingerprint,
    decisive_options,
    fingerprints_agree,
    result_fingerprints,
    teacher_fingerprints,
)
from .trainer import DistillationTrainer
from .training import DISTILLATION_LOSSES, choose_precision, evaluate, test, train
from .unlabelled import build_unlabelled_loader
