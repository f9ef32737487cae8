"""What torchrun and SLURM set, read."""

import pytest
from cankd.engine import launch
from cankd.engine.started_process import started_process
from cankd.utils import UserError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu1", "MASTER_PORT": "29400"}
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}


def test_torchrun():
    assert started_process(environ=TORCHRUN) == ("torchrun", 3, 4, 1, "gpu1", 29400)
    assert started_process(environ={**SLURM, **TORCHRUN}).launcher == "torchrun"  # srun torchrun …


def test_plain_processes_are_started_by_nobody():
    assert started_process(environ={}) is None
    assert started_process(environ={**SLURM, "SLURM_NTASKS": "1"}) is None


@pytest.mark.parametrize(
    "nodes, address",
    [
        ("gpu[03-05,7],cpu1", "gpu03"),
        ("cpu1,gpu[03-05]", "cpu1"),
        ("rack1-[2,4]-n[08-09]", "rack1-2-n08"),
        ("gpu7", "127.0.0.1"),  # one machine
    ],
)
def test_srun(nodes, address):
    found = started_process(environ={**SLURM, "SLURM_JOB_NODELIST": nodes})
    assert found[:5] == ("srun", 3, 4, 1, address)
    assert started_process(environ={**SLURM, "SLURM_NODELIST": nodes}) == found


def test_srun_without_a_list_of_machines():
    assert started_process(environ={**SLURM, "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"}).address == "10.0.0.1"
    given = {"MASTER_ADDR": "gpu9", "MASTER_PORT": "4444", "SLURM_NODELIST": "gpu[1-2]"}
    assert started_process(environ={**SLURM, **given})[4:] == ("gpu9", 4444)


def test_job_steps_have_different_ports():
    steps = [
        started_process(environ={**SLURM, "SLURM_JOB_ID": job, "SLURM_STEP_ID": step}) for job in "78" for step in "01"
    ]
    assert len({step.port for step in steps}) == 4 and all(1024 < step.port < 32768 for step in steps)


def test_a_batch_script_without_srun_is_one_process():
    batch = {key: value for key, value in SLURM.items() if key != "SLURM_STEP_ID"}
    assert started_process(environ={**batch, "SLURM_PROCID": "0", "ENVIRONMENT": "BATCH"}) is None
    assert (
        started_process(environ={**SLURM, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}) is None
    )  # salloc's shell


def test_one_task_a_machine_may_start_its_processes_itself():
    assert started_process(2, {**SLURM, "SLURM_NTASKS": "2"}) is None


def test_half_a_description_is_refused():
    """As Kubeflow gives one, a container a machine."""
    pods = {"RANK": "1", "WORLD_SIZE": "2"}
    with pytest.raises(UserError, match="not LOCAL_RANK, MASTER_ADDR, MASTER_PORT: start the script by torchrun"):
        started_process(environ=pods)
    assert started_process(2, pods) is None


@pytest.mark.parametrize(
    "options", [{"num_gpus": 4}, {"num_machines": 2}, {"machine_rank": 1}, {"dist_url": "tcp://gpu1:1"}]
)
def test_options_that_contradict_torchrun_are_refused(monkeypatch, options):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun has started 4 processes: leave out --num-gpus"):
        launch(pytest.fail, **options)


def test_no_gpu_is_one_process():
    """As in Detectron2's launch."""
    called = []
    launch(called.append, 0, args=(1,))
    assert called == [1]
    with pytest.raises(UserError, match="--num-gpus -1; it has to be at least 0"):
        launch(pytest.fail, -1)


@pytest.mark.parametrize("rank", [-1, 2])
def test_machines_are_numbered_from_0(rank):
    with pytest.raises(UserError, match=rf"--machine-rank is {rank}; of 2 machine\(s\) the first is 0, the last 1"):
        launch(pytest.fail, num_machines=2, machine_rank=rank, dist_url="tcp://localhost:1")


@pytest.mark.parametrize("dist_url", ["auto", "env://", "tcp://host", "tcp://host:many", "file:///tmp/x"])
def test_machines_need_a_place_to_meet(dist_url):
    with pytest.raises(UserError, match="2 machine.* need tcp://HOST:PORT"):
        launch(pytest.fail, 1, num_machines=2, dist_url=dist_url)
