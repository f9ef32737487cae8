from .agreement import Agreement
from .exported_model import FORMATS, ExportedModel, write_exported
from .exporting import export_model
