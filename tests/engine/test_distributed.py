"""Two processes on the CPU."""

import glob
import json
import logging
import multiprocessing.util
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cankd.data.checks import check_masks
from cankd.engine import DistillationTrainer, launch, load_config, train
from cankd.engine.stop_signals import StopSignals
from cankd.modeling import CanKDHead, Distiller, Teacher, match_levels
from cankd.modeling.meta_arch import SemSegHead
from cankd.utils import Interrupted, UserError, report_mistakes
from detectron2.data import MetadataCatalog
from detectron2.engine import HookBase, create_ddp_model
from detectron2.layers import ShapeSpec
from detectron2.utils import comm
from torch import nn

from tests.tiny import write_config

ROOT = pathlib.Path(__file__).parents[2]


class Backbone(nn.Module):
    size_divisibility = 0
    padding_constraints = {}

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x):
        return {"c1": self.conv(x)}

    def output_shape(self):
        return {"c1": ShapeSpec(channels=4, stride=2)}


class Toy(nn.Module):
    """A model without norms whose loss is a mean over images."""

    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.register_buffer("pixel_mean", torch.zeros(3, 1, 1, dtype=torch.double), False)
        self.register_buffer("pixel_std", torch.ones(3, 1, 1, dtype=torch.double), False)

    def forward(self, batched_inputs):
        images = torch.stack([record["image"] for record in batched_inputs])
        return {"loss_toy": F.mse_loss(self.backbone(images)["c1"].mean(1), images[:, 0, ::2, ::2])}


def train_toy(folder, scale, unlabelled, accumulate=1):
    torch.manual_seed(0)
    teacher = Toy().double()
    weights = folder / f"teacher_{comm.get_rank()}.pth"
    torch.save({"model": teacher.state_dict()}, weights)
    model = Distiller(
        student=Toy().double(),
        teacher=Teacher(model=teacher, weights=str(weights)),
        head=CanKDHead(levels=["c1"], in_channels=4, norm="").double(),
    )
    torch.nn.init.normal_(model.head.non_local["c1"].out.weight)
    model.distillation_scale = scale
    images = torch.randn(3, 4, 3, 12, 12, dtype=torch.double)
    share = slice(comm.get_rank(), None, comm.get_world_size())
    batches = [[{"image": image, "image_id": i} for i, image in enumerate(step[share])] for step in images]
    for batch, step in zip(batches, torch.randn(3, unlabelled, 3, 16, 16, dtype=torch.double)):
        batch += [{"image": image, "unlabelled": True} for image in step[share]]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    wrapped = create_ddp_model(model, device_ids=None)
    DistillationTrainer(wrapped, batches, optimizer, accumulate=accumulate).train(0, 3)
    if comm.is_main_process():
        state = {**model.student.state_dict(), **model.head.state_dict()}
        torch.save(state, folder / f"after_{comm.get_world_size()}.pth")


def note_threads_at_exit(folder):
    comm.gather(torch.zeros(1))
    name = f"{comm.get_rank()} {threads() > 1}"
    finalize = multiprocessing.util.Finalize  # what a process started by multiprocessing runs at its end
    finalize(None, lambda: (folder / f"{name} {threads()}").touch(), exitpriority=1)


def threads():
    return len(os.listdir("/proc/self/task"))  # threading.active_count() knows those of Python alone


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="counts threads as Linux lists them")
def test_processes_end_without_the_threads_of_their_process_groups(tmp_path):
    """One of them that still lets go of a tensor while the interpreter exits aborts the process."""
    run_in_two_processes(note_threads_at_exit, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0 True 1", "1 True 1"]


def run_in_two_processes(function, *args):
    launch(function, 2, dist_url="auto", args=args)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("scale, unlabelled, accumulate", [(1.0, 6, 1), (0.0, 6, 1), (1.0, 0, 2)])
def test_two_processes_equal_one(tmp_path, scale, unlabelled, accumulate):
    train_toy(tmp_path, scale, unlabelled)
    run_in_two_processes(train_toy, tmp_path, scale, unlabelled, accumulate)
    one, two = (torch.load(tmp_path / f"after_{number}.pth", weights_only=True) for number in (1, 2))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-10, atol=1e-12, msg=lambda m: f"{name}: {m}")


@report_mistakes()
def fail_on_the_second_rank():
    if comm.get_rank() == 1:
        match_levels(["p3"], {}, {})
    torch.distributed.barrier()


def test_what_fails_on_one_rank_alone_is_said(capfd):
    with pytest.raises(SystemExit) as exit:
        run_in_two_processes(fail_on_the_second_rank)
    assert exit.value.code == 1
    assert "[rank 1] Error: the student has no level 'p3'" in capfd.readouterr().err


def kill_the_second_rank():
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()


def test_a_killed_process_is_mentioned():
    with pytest.raises(SystemExit, match="process 1 terminated with signal SIGKILL"):
        run_in_two_processes(kill_the_second_rank)


def note_reads_and_verdicts(folder, data_sets):
    reads, verdicts, imread = [], [], cv2.imread
    cv2.imread = lambda path, *flags: reads.append(path) or imread(path, *flags)
    head = SemSegHead(in_feature="res5", stride=8, context=nn.Identity(), context_channels=4, num_classes=3)
    for records in data_sets:
        try:
            check_masks(records, head)
            verdicts.append("usable")
        except UserError as error:
            verdicts.append(str(error))
    (folder / f"{comm.get_rank()}.json").write_text(json.dumps([len(reads), verdicts]))


def test_one_process_reads_the_masks_and_all_know_what_it_finds(tmp_path):
    for label in (2, 3):
        cv2.imwrite(str(tmp_path / f"{label}.png"), np.full((4, 6), label, np.uint8))
    sound, wrong = ([{"file_name": "a.jpg", "sem_seg_file_name": f"{tmp_path}/{label}.png"}] for label in (2, 3))
    run_in_two_processes(note_reads_and_verdicts, tmp_path, [sound, wrong, sound])
    (reads, verdicts), (reads_of_second, verdicts_of_second) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)
    )
    assert (reads, reads_of_second) == (3, 0)
    assert verdicts == verdicts_of_second and verdicts[0] == verdicts[2] == "usable"
    assert "3.png has the labels [3]; the model knows 0 to 2" in verdicts[1]


class CompareRanks(HookBase):
    """Writes, after each step, whether all ranks hold the same parameters."""

    def __init__(self, path):
        self.path = path

    def after_step(self):
        parameters = [p for p in self.trainer.model.parameters() if p.requires_grad]
        flat = torch.cat([p.detach().flatten() for p in parameters])
        gathered = [torch.empty_like(flat) for _ in range(comm.get_world_size())]
        torch.distributed.all_gather(gathered, flat)
        if comm.is_main_process():
            scale = self.trainer.storage.history("distillation_scale").latest()
            with open(self.path, "a") as f:
                f.write(json.dumps([scale, all(torch.equal(flat, other) for other in gathered)]) + "\n")


def train_retinanet(config_file, datasets, path):
    from cankd.data import DigitScenes, register_digit_scenes

    for (name, images), split in zip(datasets.items(), ("train", "val")):
        register_digit_scenes(name, DigitScenes(split=split, num_images=images))
    train(load_config(config_file), extra_hooks=(CompareRanks(path),))


def test_ranks_hold_identical_weights_warming_up_distilling_and_stopped(
    quick_config, tiny_scenes, tmp_path, monkeypatch
):
    root = MetadataCatalog.get(tiny_scenes[0]).json_file.split("/tiny_scenes_train")[0]
    monkeypatch.setenv("DETECTRON2_DATASETS", root)
    config = quick_config("DigitScenes/retinanet_R10_from_R18.py", max_iter=6)
    config.train.distillation.update(warmup_iters=2, stop_iter=4, unlabelled={"dataset": tiny_scenes[1], "share": 0.5})
    config.train.inherit = ["head.*"]
    write_config(config, tmp_path / "config.py")
    datasets = dict(zip(tiny_scenes, (24, 6)))
    run_in_two_processes(train_retinanet, str(tmp_path / "config.py"), datasets, str(tmp_path / "ranks.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "ranks.jsonl").read_text().splitlines()]
    assert [scale for scale, _ in lines] == [0, 0.5, 1, 1, 0, 0]
    assert all(same for _, same in lines)
    assert (tmp_path / "run" / "model_final.pth").exists()


def note_listeners(path):
    """Writes the addresses, as Linux lists them, at which the launcher's stores listen."""
    if comm.is_main_process() and os.path.exists("/proc/net/tcp"):
        inodes = {os.readlink(link) for link in glob.glob(f"/proc/{os.getppid()}/fd/*") if os.path.exists(link)}
        rows = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
        path.write_text(" ".join(row[1][:-5] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes))


def stop_after_the_launcher_is_told(folder):
    """Is asked to stop by the launcher, which has got SIGTERM from outside."""
    note_listeners(folder / "listeners")
    asked = []
    with StopSignals(first=asked.append, again=asked.append):
        if comm.is_main_process():
            os.kill(os.getppid(), signal.SIGTERM)
        while not asked:
            time.sleep(0.01)
        comm.synchronize()
    (folder / f"{comm.get_rank()} {asked[0].name}").touch()
    raise Interrupted(asked[0], together=True)


def test_a_signal_to_the_launcher_ends_all_in_order_and_its_store_is_local(tmp_path):
    with pytest.raises(SystemExit) as end:
        run_in_two_processes(stop_after_the_launcher_is_told, tmp_path)
    assert end.value.code == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.glob("*SIG*")) == ["0 SIGTERM", "1 SIGTERM"]
    if os.path.exists("/proc/net/tcp"):
        assert set((tmp_path / "listeners").read_text().split()) == {"0100007F"}  # 127.0.0.1


def start_machine(rank, port, main, *args):
    launch(main, 1, num_machines=2, machine_rank=rank, dist_url=f"tcp://localhost:{port}", args=args)


@report_mistakes()
def kill_the_second_machine(folder):
    torch.distributed.all_reduce(torch.ones(1))
    (folder / f"{comm.get_rank()} {comm.get_local_rank()}").touch()
    try:
        kill_the_second_rank()
    except RuntimeError:  # as Detectron2's training loop does
        logging.getLogger("detectron2.engine.train_loop").exception("Exception during training:")
        raise


def test_one_machines_failure_ends_the_other_in_one_line(tmp_path, capfd):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    second = multiprocessing.get_context("fork").Process(
        target=start_machine, args=(1, port, kill_the_second_machine, tmp_path)
    )
    second.start()
    with pytest.raises(UserError, match="^Machine 1 failed: its log says why. The processes of this machine were"):
        start_machine(0, port, kill_the_second_machine, tmp_path)
    second.join()
    assert second.exitcode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0 0", "1 0"]
    said = [line for line in capfd.readouterr().err.splitlines() if "rror" in line or "Traceback" in line]
    assert said == ["Error: process 0 terminated with signal SIGKILL"]


def register_tiny_scenes(names):
    """Returns a Python file that registers the small splits."""
    lines = ["from cankd.data import DigitScenes, register_digit_scenes"]
    for name, images, split in zip(names, (24, 6), ("train", "val")):
        lines.append(f"register_digit_scenes({name!r}, DigitScenes(split={split!r}, num_images={images}))")
    return "\n".join(lines)


def start_by_environment(rank, config, *overrides, port):
    """Starts the training script as torchrun does, one process on each of two machines."""
    place = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
    command = [sys.executable, "tools/lazyconfig_train_net.py", "--config-file", config, *overrides]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def test_torchrun_trains_on_two_machines_and_stops_where_one_is_told(quick_config, tiny_scenes, tmp_path, monkeypatch):
    config = quick_config("DigitScenes/retinanet_R10.py", max_iter=1000, log_period=1)
    write_config(config, tmp_path / "config.py")
    root = MetadataCatalog.get(tiny_scenes[0]).json_file.split(f"/{tiny_scenes[0]}")[0]
    monkeypatch.setenv("DETECTRON2_DATASETS", root)
    (tmp_path / "datasets.py").write_text(register_tiny_scenes(tiny_scenes))
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    options = str(tmp_path / "config.py"), "--datasets", str(tmp_path / "datasets.py")
    runs = [start_by_environment(rank, *options, port=port) for rank in (0, 1)]
    try:
        metrics = tmp_path / "run" / "metrics.json"
        while not (metrics.exists() and metrics.read_text()):  # the file is there before the second process listens
            assert runs[0].poll() is None and runs[1].poll() is None
            time.sleep(0.05)
        runs[1].send_signal(signal.SIGTERM)
        said = [run.communicate(timeout=120)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [143, 143]
    assert "Interrupted. Training continues from the last checkpoint with --resume" in said[0].splitlines()[-1]
    assert "Interrupted" not in said[1] and "Traceback" not in "".join(said)
    last = int((tmp_path / "run" / "last_checkpoint").read_text()[6:13])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(last + 1))
    config.train.max_iter = last + 3
    train(config, resume=True)
    assert (tmp_path / "run" / "model_final.pth").exists()
