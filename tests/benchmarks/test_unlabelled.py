from cankd import model_zoo
from cankd.engine import load_config, use_method
from detectron2.config import LazyConfig


def test_rows_are_the_three_configs(load_tool):
    benchmark = load_tool("benchmarks/unlabelled.py")
    alone, distilled, mixed = benchmark.list_methods()
    assert (alone.name, distilled.overrides) == ("alone", ())
    config = use_method(load_config(model_zoo.get_config_file(benchmark.CONFIG)), mixed.name)
    found = LazyConfig.apply_overrides(config, list(mixed.overrides)).train.distillation
    assert found == load_config(model_zoo.get_config_file(benchmark.WITH_UNLABELLED)).train.distillation
    assert found.unlabelled.share == 1
