import sys
import types

import pytest
from cankd.engine.wandb_writer import WandbWriter
from detectron2.utils.events import EventStorage


def test_writes_config_and_scalars_to_the_run_that_is_resumed(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    quick = {"console": "off", "disable_git": True, "x_disable_meta": True, "x_disable_stats": True}
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "wandb_run").write_text("earlier1")
    config = {"optimizer": {"lr": 0.125, "params": WandbWriter}}
    options = dict(project="pets", mode="offline", settings=wandb.Settings(**quick))
    writer = WandbWriter(output_dir=str(tmp_path), config=config, resume=True, **options)
    with EventStorage(7) as storage:
        for value in (1.0, 0.5, 0.75):
            storage.put_scalar("loss_cankd_p3", value)
            storage.step()
        writer.write()
        writer.close()
    wandb.teardown()  # writes the rest
    (log,) = tmp_path.glob("wandb/offline-run-*-earlier1/run-earlier1.wandb")
    contents = log.read_bytes()
    assert b'{"lr":0.125,"params":"cankd.engine.wandb_writer.WandbWriter"}' in contents
    assert b"loss_cankd_p3" in contents and b"0.75" in contents  # the median
    assert (tmp_path / "wandb_run").read_text() == "earlier1"


def test_a_new_run_is_another_and_each_step_is_logged_once(tmp_path, monkeypatch):
    logged = []

    class Run:
        id = "new2"

        def log(self, scalars, step):
            logged.append((step, scalars))

    wandb = types.SimpleNamespace(init=lambda **options: logged.append(options["id"]) or Run(), Error=RuntimeError)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (tmp_path / "wandb_run").write_text("earlier1")
    writer = WandbWriter(output_dir=str(tmp_path), config={}, project="pets")
    with EventStorage(0) as storage:
        for value in (1.0, 3.0):
            storage.put_scalar("loss", value)
            writer.write()
            storage.step()
    assert logged == [None, (0, {"loss": 1.0}), (1, {"loss": 2.0})]  # medians
    assert (tmp_path / "wandb_run").read_text() == "new2"


def test_says_what_to_do_where_wandb_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"wandb is not installed: pip install 'cankd\[loggers\]'"):
        WandbWriter(output_dir=str(tmp_path), config={}, project="pets")
