import pytest
from reliability.sandbox import build_project


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """Returns the folder of a sound project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))  # of the processes that try it
        folder = tmp_path_factory.mktemp("project") / "sound"
        build_project(folder)
        yield folder
