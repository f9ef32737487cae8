from unittest import mock

from detectron2 import evaluation

__all__ = ["CityscapesInstanceEvaluator"]


class CityscapesInstanceEvaluator(evaluation.CityscapesInstanceEvaluator):
    """Detectron2's :class:`CityscapesInstanceEvaluator`, which works with NumPy 2 and leaves no files behind.

    cityscapesscripts writes intermediate results into the working directory, and cannot write NumPy 2's integers.
    """

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Evaluates what was processed; None except on the main process."""
        import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as script  # only where it is used

        with mock.patch.object(script, "writeDict2JSON"):
            return super().evaluate()
