import json

import pytest

from tests.tiny import write_config


@pytest.mark.parametrize("levels, status", [("[p3,p4,p5]", 0), ("[p3,p9]", 1)])
def test_exit_status_and_json(quick_config, load_tool, tmp_path, capsys, levels, status):
    write_config(quick_config("DigitScenes/retinanet_R10_from_R18.py"), tmp_path / "config.py")
    tool = load_tool("tools/check_distillation.py")
    arguments = [
        "--num-gpus",
        "0",
        "--config-file",
        str(tmp_path / "config.py"),
        "--images",
        "2",
        "--json",
        str(tmp_path / "new" / "found.json"),
    ]
    with pytest.raises(SystemExit) as stop:
        tool.main(tool.parse_arguments([*arguments, f"model.head.levels={levels}"]))
    assert stop.value.code == status
    found = json.loads((tmp_path / "new" / "found.json").read_text())
    assert len(found["problems"]) == status
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last == ("Not ready: 1 to mend." if status else "Ready.")
