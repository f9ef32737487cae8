from .arguments import (
    ConfigArgumentParser,
    OverridesArgumentParser,
    PictureArgumentParser,
    add_model_arguments,
    image_size,
    model_arguments,
    named_path,
)
from .channel_order import orders_differ, reorder_channels
from .directory_lock import lock_directory
from .errors import (
    ComparisonError,
    Interrupted,
    NonFiniteError,
    TooSmallError,
    UnknownClassError,
    UserError,
    is_lost_connection,
    is_own_file,
    report_mistakes,
    where,
)
from .files import create_folder, make_output_dir, place_of, read_record, remove_unfinished, replace_file, write_json
from .lazy_calls import target_of
from .memory import peak_memory
from .random_numbers import RandomNumbers
from .random_state import preserved_random_state, random_state, set_random_state
from .tables import escape_markdown, markdown_table, spread
from .unlabelled import UNLABELLED, split_unlabelled
