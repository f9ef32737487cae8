import pytest
import torch
import torch.nn.functional as F
from cankd.modeling import AFFINITIES, CanKDHead, CrossNonLocal


@pytest.mark.parametrize("affinity", sorted(name for name, affinity in AFFINITIES.items() if affinity.attends))
@pytest.mark.parametrize("pool_size, pooling", [(1, "max"), (2, "max"), (2, "average")])
def test_attention_rows_give_what_the_module_attends_to(affinity, pool_size, pooling):
    """The rows, applied to the pooled values, are what goes into ``out``."""
    module = CrossNonLocal(6, affinity=affinity, pool_size=pool_size, pooling=pooling).double()
    student, teacher = torch.randn(2, 2, 6, 5, 7, dtype=torch.double)
    attended = []
    module.out.register_forward_hook(lambda _, inputs, outputs: attended.extend(inputs))
    module(student, teacher)
    positions = [(0, 0), (4, 6), (2, 3)]
    rows = module.attention_rows(student, teacher, positions)  # (N, positions, H', W')
    value = module.g(teacher)
    if pool_size > 1:
        value = {"max": F.max_pool2d, "average": F.avg_pool2d}[pooling](value, pool_size)
    assert rows.shape == (2, 3, *value.shape[2:])
    expected = torch.stack([attended[0][:, :, row, column] for row, column in positions], dim=2)
    torch.testing.assert_close(value.flatten(2) @ rows.flatten(2).mT, expected)


def test_a_head_without_attention_has_no_rows():
    feature = {"p3": torch.randn(1, 4, 6, 6)}
    for options in ({"attention": False}, {"affinity": "linear"}):
        with pytest.raises(ValueError, match="this head has no attention"):
            CanKDHead(levels=["p3"], in_channels=4, **options).attention_rows(feature, feature, {"p3": [(0, 0)]})


def test_pooling_has_to_be_known():
    with pytest.raises(ValueError, match="pooling is 'min'; it has to be one of max, average"):
        CanKDHead(levels=["p3"], in_channels=4, pooling="min")
