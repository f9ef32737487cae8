"""Values that ours must equal, one file a case."""

import os
import pathlib

import pytest

HERE = pathlib.Path(__file__).parent


def reference(name: str) -> pathlib.Path:
    """Returns the file of a case: in the folder that ``CANKD_REFERENCES`` names, if it is set, else here.

    A test whose file is absent from that folder is skipped.
    """
    folder = os.getenv("CANKD_REFERENCES")
    path = pathlib.Path(folder or HERE) / name
    if folder and not path.is_file():
        pytest.skip(f"{path} is absent")
    return path
