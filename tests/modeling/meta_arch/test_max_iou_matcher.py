import torch
from cankd.modeling.meta_arch import MaxIoUMatcher


def match(overlaps, **arguments):
    matcher = MaxIoUMatcher([0.4, 0.5], [0, -1, 1], **arguments)
    matches, labels = matcher(torch.as_tensor(overlaps))
    return [(match if label == 1 else None, label) for match, label in zip(matches.tolist(), labels.tolist())]


def test_thresholds():
    assert match([[0.9, 0.5, 0.45, 0.3]]) == [(0, 1), (0, 1), (None, -1), (None, 0)]


def test_low_quality_match_goes_to_the_object_that_asked_for_it():
    # The second object has its best in the first element, which overlaps the first object more.
    assert match([[0.6, 0.7], [0.1, 0.0]]) == [(1, 1), (0, 1)]


def test_last_object_wins_and_ties_are_all_taken():
    assert match([[0.3, 0.3], [0.2, 0.1]]) == [(1, 1), (0, 1)]
    assert match([[0.2, 0.1], [0.3, 0.3]]) == [(1, 1), (1, 1)]


def test_object_that_no_element_meets():
    overlaps = [[0.6, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert match(overlaps) == [(0, 1), (None, 0), (None, 0)]
    assert match(overlaps, match_unmet=True) == [(1, 1), (1, 1), (1, 1)]


def test_low_quality_matches_have_a_lowest_iou():
    assert match([[0.3, 0.1], [0.0, 0.2]], min_iou=0.3) == [(0, 1), (None, 0)]


def test_no_objects():
    assert match(torch.zeros(0, 2)) == [(None, 0)] * 2
