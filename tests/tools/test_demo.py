from unittest import mock

from cankd.reporting import run_demo


def test_compares_the_small_retinanets(load_tool, monkeypatch):
    tool = load_tool("tools/demo.py")
    demo = mock.create_autospec(run_demo)  # it is tested elsewhere
    monkeypatch.setattr(tool, "run_demo", demo)
    tool.main(tool.parse_arguments(["--output", "here", "train.max_iter=7"]))
    student, distilled, output = demo.call_args.args
    assert "teacher" not in student.model and distilled.model.teacher.weights.endswith("retinanet_R18.pth")
    assert (student.train.max_iter, distilled.train.max_iter, output) == (7, 7, "here")
