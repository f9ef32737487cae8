import pytest
import torch
from cankd.utils import report_mistakes
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError


@pytest.mark.parametrize(
    "contents, message",
    [
        ({"output_dir": "${nope}"}, r"Error: the config cannot be used \(Interpolation key 'nope' not found, "),
        ({"output_dir": "???"}, r"Error: the config cannot be used \(Missing mandatory value: output_dir, "),
    ],
)
def test_a_config_that_refers_to_what_is_not_there_is_a_users_mistake(contents, message):
    config = OmegaConf.create(contents)

    @report_mistakes()
    def main():
        return config["output_dir"]

    with pytest.raises(SystemExit, match=message) as stop:
        main()
    assert "\n" not in str(stop.value)


def test_a_misspelt_option_in_our_code_keeps_its_stack_trace():
    @report_mistakes()
    def main():
        return OmegaConf.create({"max_iter": 1}, flags={"struct": True}).max_itr

    with pytest.raises(ConfigAttributeError):
        main()


def test_a_full_memory_of_the_gpu_ends_in_one_line():
    @report_mistakes()
    def main():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")

    with pytest.raises(
        SystemExit, match=r"^Error: the memory of the GPU is full.*train.accumulate=2.*Tried.* 2 GiB.\)$"
    ):
        main()
