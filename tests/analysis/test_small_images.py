from cankd.analysis.small_images import count_small_images
from cankd.modeling import CanKDHead

from tests.tiny import distiller


def test_images_too_small_for_a_level_are_counted(tmp_path):
    model = distiller(tmp_path, head=CanKDHead(levels=["p3", "p4", "p5"], pool_size=1))
    passes = []
    model.student.register_forward_pre_hook(lambda module, arguments: passes.append(arguments))
    sizes = 3 * [(32, 20)] + 2 * [(33, 32)] + [(16, 16)] + 50 * [(200, 200), (90, 64), (300, 160)] + [(31, 70)]
    # P5 of 32×32 is one position; of 64×32 and 32×96 there are two and three.
    assert count_small_images(model, sizes, batch_size=8) == {"p5": 4}
    assert len(passes) <= 4  # what is larger than what is large enough is not tried


def test_a_group_counts_for_each_level_that_lacks_positions(tmp_path):
    model = distiller(tmp_path, head=CanKDHead(levels=["p3", "p4", "p5"], pool_size=2))
    sizes = [(32, 32), (64, 64), (96, 96), (128, 128)]  # P5: 1, 2×2, 3×3, 4×4; P4: 2×2, 4×4, …; pooling by 2
    assert count_small_images(model, sizes, batch_size=1) == {"p4": 1, "p5": 3}
