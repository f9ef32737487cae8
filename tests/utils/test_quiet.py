import subprocess
import sys

FILTERS = "import warnings, {imported}; print(any('torch.jit' in str(f[1]) for f in warnings.filters))"


def silences(imported):
    command = [sys.executable, "-c", FILTERS.format(imported=imported)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "True"


def test_scripts_change_the_filters_of_warnings_and_the_library_does_not():
    assert not silences("cankd.engine, cankd.data")
    assert silences("cankd.utils.quiet")
