from .arguments import PictureArgumentParser, add_model_arguments, image_size, model_arguments, named_path
from .channel_order import orders_differ, reorder_channels
from .errors import ComparisonError, NonFiniteError, TooSmallError, UserError, report_mistakes, where
from .files import make_output_dir, place_of, replace_file, write_json
from .random_numbers import RandomNumbers
from .tables import escape_markdown, markdown_table, spread
from .unlabelled import UNLABELLED, split_unlabelled
