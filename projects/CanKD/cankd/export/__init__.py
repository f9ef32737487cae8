from .agreement import Agreement
from .exporting import export_model
from .exported_model import FORMATS, ExportedModel, write_exported
