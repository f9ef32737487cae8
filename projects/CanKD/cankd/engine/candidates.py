import contextlib
import copy
import glob
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cankd.evaluation import lacks_boxes, value_or_zero
from cankd.modeling.distillation_heads.detkds_head import DetKDSHead
from cankd.utils import ComparisonError, NonFiniteError, UserError, read_record, write_json
from detectron2.config import LazyCall
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from omegaconf import DictConfig

from .methods import add_up
from .result_fingerprint import fingerprints_agree, result_fingerprints
from .training import train

__all__ = ["Candidates", "Genes"]

Genes = Mapping[str, Any]
"""Arguments of a :class:`DetKDSHead`."""

_ENTRIES = {"heads": list, "results": dict, "failure": str | None}


class Candidates:
    """Trains distillers for a few iterations each, all from the same student and on the same batches.

    Each result is a JSON file, named by the config of the candidate: what is there is not trained again, unless other
    weights or annotations have taken the place of those that it was trained with.
    """

    def __init__(
        self,
        config: DictConfig,
        output_dir: str,
        *,
        iterations: int,
        metric: str = "bbox/AP",
        report: Callable[[str], None] = print,
    ):
        """
        Args:
            config: of a distillation; its head is replaced.
            output_dir: of the results.
            iterations: of a candidate.
            metric: task and name of the score, in per cent.
            report: takes a line for each candidate.
        """
        self._config = config
        self._output_dir = output_dir
        self._iterations = iterations
        self._task, _, self._metric = metric.partition("/")
        self._report = report

    def score(self, heads: Sequence[Genes]) -> float:
        """Returns the metric of a candidate, 0 where it has none: its training failed, or it finds nothing.

        Raises:
            UserError: if the config is unusable whatever the candidate, or its evaluator does not give the metric.
        """
        config = self._config_of(heads)
        config.train.update(max_iter=self._iterations, eval_period=0)
        fingerprints = comm.all_gather(result_fingerprints(config))[0]
        config.train.output_dir = os.path.join(self._output_dir, fingerprints["config"][:16])
        contents = comm.all_gather(read_record(f"{config.train.output_dir}.json", _ENTRIES))[0]
        if contents is None or not fingerprints_agree(contents, fingerprints):
            contents = comm.all_gather(self._train(config, heads, fingerprints))[0]
        self._check(contents)
        score = value_or_zero(contents["results"].get(self._task, {}).get(self._metric))
        if comm.is_main_process():
            self._report(self._describe(score, contents))
        return score

    def _check(self, contents):
        results = contents["results"]
        if contents["failure"] or self._metric in results.get(self._task, {}):
            return
        if lacks_boxes(f"{self._task}/{self._metric}", flatten_results_dict(results)):
            return
        given = ", ".join(f"{task}/{name}" for task, metrics in results.items() for name in metrics if "-" not in name)
        raise UserError(f"the metric is {self._task}/{self._metric}; the evaluator gives {given or 'nothing'}")

    def _config_of(self, heads):
        """Returns the config with a sum of heads."""
        config = copy.deepcopy(self._config)
        config.model.head = add_up([LazyCall(DetKDSHead)(**genes) for genes in heads])
        config.train.output_dir = ""
        return config

    def _describe(self, score, contents):
        forms = " + ".join(" ".join(str(v) for k, v in genes.items() if k != "levels") for genes in contents["heads"])
        failure = f"  ({contents['failure']})" if contents["failure"] else ""
        return f"{self._metric} {score:6.2f}  {forms}{failure}"

    def _train(self, config, heads, fingerprints):
        """Trains and evaluates, and writes what came out."""
        folder, results, failure = config.train.output_dir, {}, None
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was interrupted
        comm.synchronize()
        try:
            with contextlib.redirect_stdout(None):
                results = train(config)
        except (ComparisonError, NonFiniteError) as error:
            failure = error
        contents = {**fingerprints, "heads": heads, "iterations": self._iterations, "results": results, "failure": None}
        if failure:
            contents["failure"] = str(failure).splitlines()[0]
        if failure or comm.is_main_process():
            write_json(f"{folder}.json", contents)
        if failure and comm.get_world_size() > 1:
            raise failure  # the other processes wait for this one; run again, the search goes on behind it
        if comm.is_main_process():
            for path in glob.glob(os.path.join(glob.escape(folder), "*.pth")):
                os.remove(path)
        return contents
