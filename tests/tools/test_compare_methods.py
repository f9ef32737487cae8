from unittest import mock

from cankd.reporting import compare_methods, parse_method

RUN = ["--config-file", "student.py", "--methods", "pkd", "strong=cankd:model.head.weight=9"]


def call(load_tool, monkeypatch, *arguments):
    """Returns what the script asks the comparison for, by the names of its parameters."""
    tool = load_tool("tools/compare_methods.py")
    compare = mock.create_autospec(compare_methods, return_value="# Methods compared")  # it is tested elsewhere
    monkeypatch.setattr(tool, "compare_methods", compare)
    monkeypatch.setattr("sys.argv", ["compare_methods.py", *RUN])
    tool.main(tool.parse_arguments([*RUN, *arguments]))
    names = ("config_file", "methods", "seeds", "output_dir")
    return {**dict(zip(names, compare.call_args.args)), **compare.call_args.kwargs}


def test_takes_what_the_command_line_says(load_tool, monkeypatch, capsys):
    options = ["--seeds", "3", "4", "--jobs", "2", "--output", "here", "--runs", "there", "--iterations", "7"]
    options += ["--baseline", "pkd"]
    models = ["--teacher", "teacher.py", "--teacher-weights", "teacher.pth", "--datasets", "data.py"]
    called = call(load_tool, monkeypatch, *options, *models, "train.log_period=1")
    assert called["methods"] == [parse_method(method) for method in RUN[3:]]
    assert (called["config_file"], called["seeds"], called["jobs"]) == ("student.py", [3, 4], 2)
    assert (called["output_dir"], called["runs_dir"], called["baseline"]) == ("here", "there", "pkd")
    assert called["overrides"] == ["train.log_period=1", "train.max_iter=7"]
    given = {key: value for key, value in called["models"].items() if value}
    assert given == {"teacher": "teacher.py", "weights": "teacher.pth", "datasets": "data.py"}
    assert called["command"] == (
        "tools/compare_methods.py --config-file student.py --methods pkd strong=cankd:model.head.weight=9"
    )
    assert capsys.readouterr().out == "\n# Methods compared\nhere/methods.md, .json, .png\n"


def test_options_of_the_config_may_follow_the_methods(load_tool):
    parse = load_tool("tools/compare_methods.py").parse_arguments
    options = ["SEED=0", "SOLVER.BASE_LR=0.01", "tran.max_iter=4", "+train.note=x", "model.head.levels=[p3]"]
    methods = ["pkd", "KD=kd", "mu_0.5=cankd:model.head.weight=0.5", "fgd:model.head.weight=1", "mine=found.json"]
    args = parse([*RUN[:3], *methods, *options])
    assert (args.methods, args.opts) == (methods, options)


def test_says_little_by_itself(load_tool, monkeypatch):
    called = call(load_tool, monkeypatch)
    assert (called["seeds"], called["jobs"], called["runs_dir"], called["overrides"]) == ([0, 1, 2], 1, None, [])
    assert called["baseline"] == "alone"
