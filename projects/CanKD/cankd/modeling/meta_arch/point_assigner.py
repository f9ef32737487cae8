import torch
from detectron2.structures import Boxes
from torch import Tensor

__all__ = ["PointAssigner"]


class PointAssigner:
    """Gives each ground-truth box the points nearest to its centre, on the level of its size (Yang et al. 2019,
    Sec. 4)."""

    def __init__(self, *, scale: float = 4.0, num_points: int = 1):
        """
        Args:
            scale: a square box of side ``scale`` × stride belongs to the level of that stride.
            num_points: points a box gets; fewer where its level has fewer or a point is nearer to another box.
        """
        self.scale = scale
        self.num_points = num_points

    @torch.no_grad()
    def __call__(self, points: Tensor, strides: Tensor, boxes: Boxes) -> Tensor:
        """
        Args:
            points: ``(R, 2)``, (x, y) in pixels, of all levels.
            strides: ``(R,)``, the stride of each point's level in pixels, a power of 2.
            boxes: G ground-truth boxes.

        Returns:
            ``(R,)``, int64: index of the box that the point is given to, -1 for none.
        """
        assigned = points.new_full((len(points),), -1, dtype=torch.int64)
        nearest = points.new_full((len(points),), torch.inf)
        levels = strides.log2().long()
        sizes = (boxes.tensor[:, 2:] - boxes.tensor[:, :2]).clamp(min=1e-6)
        box_levels = ((sizes / self.scale).log2().sum(dim=1) / 2).long().clamp(int(levels.min()), int(levels.max()))
        for index, (center, size, level) in enumerate(zip(boxes.get_centers(), sizes, box_levels)):
            candidates = torch.nonzero(levels == level).squeeze(1)
            distances = ((points[candidates] - center) / size).norm(dim=1)
            distances, order = distances.topk(min(self.num_points, len(candidates)), largest=False)
            candidates = candidates[order]
            nearer = distances < nearest[candidates]
            assigned[candidates[nearer]] = index
            nearest[candidates[nearer]] = distances[nearer]
        return assigned
