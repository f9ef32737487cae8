import pytest
from cankd.utils import report_mistakes
from omegaconf import OmegaConf


@pytest.mark.parametrize(
    "contents, message",
    [
        ({"output_dir": "${nope}"}, r"Error: the config cannot be used \(Interpolation key 'nope' not found, "),
        ({}, r"Error: the config cannot be used \(Key 'output_dir' is not in struct, "),
    ],
)
def test_a_config_that_refers_to_what_is_not_there_is_a_users_mistake(contents, message):
    config = OmegaConf.create(contents, flags={"struct": True})

    @report_mistakes()
    def main():
        return config["output_dir"]

    with pytest.raises(SystemExit, match=message) as stop:
        main()
    assert "\n" not in str(stop.value)
