import torch
from reliability.kills import Killer
from reliability.memory import measure_memory


def test_a_killed_run_loses_nothing(sound, tmp_path):
    run = Killer(sound, tmp_path / "project", steps=6).kill_until_finished(0)
    assert run.problems == []
    assert (tmp_path / "project" / "run" / "last_checkpoint").read_text() == "model_final.pth"


def test_damage_is_seen(sound, tmp_path):
    killer = Killer(sound, tmp_path / "project", steps=1)
    killer.kill_until_finished(0)
    run = tmp_path / "project" / "run"
    assert killer._damage(0) == []
    assert "went back from iteration 9 to 0" in killer._damage(9)[0]
    (run / "metrics.json").write_text('{"iterat\n{}\n')
    torch.save({"trainer": {"iteration": 3}}, run / "model_0000003.pth")
    (run / "model_final.pth").write_bytes(b"half")
    problems = " ".join(killer._damage(0))
    assert "model_final.pth cannot be read" in problems and "metrics.json has a line that is cut off" in problems


def test_memory_is_recorded(sound):
    memory = measure_memory(sound, 10, period=5)
    assert list(memory) == [5, 10] and min(memory.values()) > 100
