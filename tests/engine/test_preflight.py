import os

import pytest
import torch
from cankd.engine.preflight import check_batch_size, check_device, check_output_dir, check_processes


def test_output_dir_has_to_be_writable(tmp_path):
    check_output_dir(str(tmp_path / "a" / "b"))
    assert os.path.isdir(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="train.output_dir=.*file/run cannot be written: Not a directory"):
        check_output_dir(str(tmp_path / "file" / "run"))
    with pytest.raises(ValueError, match="train.output_dir=.*file cannot be written: Not a directory"):
        check_output_dir(str(tmp_path / "file"))


def test_devices_have_to_exist(monkeypatch):
    check_device("cpu")
    with pytest.raises(ValueError, match="train.device=gpu is not a device that PyTorch knows"):
        check_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_processes(2)  # on the CPU
    with pytest.raises(ValueError, match="no CUDA device: add train.device=cpu"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_device("cuda:0")
    check_processes(1)
    with pytest.raises(ValueError, match="--num-gpus 2, but this machine has 1"):
        check_processes(2)


def test_batch_has_to_fit_the_processes():
    check_batch_size({"total_batch_size": 16}, 8)
    check_batch_size({}, 8)
    for size in (4, 0, 12):
        with pytest.raises(ValueError, match=f"total_batch_size is {size}; it has to be a multiple .* processes, 8"):
            check_batch_size({"total_batch_size": size}, 8)


def test_batch_has_to_fit_the_parts_that_it_is_computed_in():
    check_batch_size({"total_batch_size": 16}, 2, accumulate=4)
    check_batch_size({}, 2, accumulate=4)
    for accumulate in (0, -1, 3, 16):
        with pytest.raises(ValueError, match=f"train.accumulate={accumulate} cannot divide .*total_batch_size=16 on 2"):
            check_batch_size({"total_batch_size": 16}, 2, accumulate=accumulate)
