"""Silences what Detectron2 of 2024 makes newer libraries warn of on each start; nobody who runs it can act on that.

A script imports it before all else. A library that changed the filters would silence its user's warnings, too.
"""

import logging
import warnings

for _message in (".*torch.jit", "pkg_resources is deprecated", "torch.meshgrid"):
    warnings.filterwarnings("ignore", _message)
logging.getLogger("torch.fx._symbolic_trace").addFilter(lambda record: "is_fx_tracing" not in record.getMessage())
