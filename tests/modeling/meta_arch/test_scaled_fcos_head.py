import torch
from cankd.modeling.meta_arch import ScaledFCOSHead
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.fcos import FCOSHead


def test_each_level_has_its_scale_for_the_boxes_alone():
    torch.manual_seed(0)
    arguments = dict(input_shape=[ShapeSpec(channels=8)] * 2, conv_dims=[8], num_classes=3)
    head, plain = ScaledFCOSHead(**arguments), FCOSHead(**arguments)
    plain.load_state_dict({name: value for name, value in head.state_dict().items() if name != "scales"})
    features = [torch.randn(1, 8, size, size) for size in (4, 2)]
    expected = plain(features)
    torch.testing.assert_close(head(features), expected, rtol=0, atol=0)  # the scales start at 1
    with torch.no_grad():
        head.scales.copy_(torch.tensor([2.0, 3.0]))
    scores, distances, centerness = head(features)
    torch.testing.assert_close((scores, centerness), (expected[0], expected[2]))
    torch.testing.assert_close(distances, [2 * expected[1][0], 3 * expected[1][1]])
    distances[1].sum().backward()
    assert head.scales.grad[0] == 0 and head.scales.grad[1] != 0
