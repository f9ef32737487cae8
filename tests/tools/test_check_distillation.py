import json

import pytest
from detectron2.config import LazyConfig


@pytest.mark.parametrize("levels, status", [("[p3,p4,p5]", 0), ("[p3,p9]", 1)])
def test_exit_status_and_json(quick_config, load_tool, tmp_path, capsys, levels, status):
    LazyConfig.save(quick_config("DigitScenes/retinanet_R10_from_R18.py"), str(tmp_path / "config.yaml"))
    tool = load_tool("tools/check_distillation.py")
    arguments = [
        "--config-file",
        str(tmp_path / "config.yaml"),
        "--images",
        "2",
        "--json",
        str(tmp_path / "found.json"),
    ]
    with pytest.raises(SystemExit) as stop:
        tool.main(tool.parse_arguments([*arguments, f"model.head.levels={levels}"]))
    assert stop.value.code == status
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["problems"]) == status
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last == ("Not ready: 1 to mend." if status else "Ready.")
