"""Evaluation inside a training run: the run's own val list, after so many steps."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from semiseg_jax import peers
from semiseg_jax.data.dataset import Dataset, DatasetInfo
from semiseg_jax.data.splits import IdList
from semiseg_jax.errors import EvaluationError, UserError
from semiseg_jax.evaluation import (
  confusion,
  extremes,
  image_labels,
  inference,
  pictures,
  protocol,
  report,
  run,
  table,
  together,
)
from semiseg_jax.evaluation.image_labels import Classified, Seen
from semiseg_jax.members import Member
from semiseg_jax.methods.method import Method
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment
from semiseg_jax.workdir import checkpoints
from semiseg_jax.workdir.writers import MetricWriter


@dataclasses.dataclass(frozen=True)
class Scored:
  """miou: a fraction; of classifiers of pictures the mean AP.  report: a table for people."""

  miou: float
  report: str


_NO_BUG = (UserError, OSError, MemoryError, jax.errors.JaxRuntimeError)


class Sheltered:
  """An evaluation that costs no run: what it raises is said, and the run saves and goes on.

  Args of the constructor:
    evaluate: of `make_evaluate`.
    workdir: of the run.
  """

  def __init__(self, evaluate: Callable[..., Scored], workdir: str):
    self._evaluate, self._workdir = evaluate, workdir
    self._failure: tuple[int, str] | None = None
    self._said: set[str] = set()

  def __call__(self, state: TrainState, step: int, again: bool = False) -> Scored | None:
    """Returns what was scored; None where it raised on any process, which is said at once.

    Another process that is gone, and an interrupt, go out.

    Raises:
      EvaluationError: it failed on this process where the others wait for it, in vain.
    """
    scored = error = None
    try:
      scored = self._evaluate(state, step, again)
    except peers.OutOfStepError as raised:
      raise EvaluationError(
        f"step {step} was trained, but its evaluation failed on this process alone: {raised}. The "
        "checkpoints before it are whole: mend that, and start the same command again, on all hosts"
      ) from raised
    except Exception as raised:  # of data, devices, disks, or a bug: the trained state is whole
      if peers.is_gone(raised):
        raise
      error = raised
    failed = peers.failures(together.reason(error) if error else "")  # the first one alone writes
    self._failure = (step, together.of_all(failed)) if failed else None
    if failed:
      self._say(step, error.__cause__ if isinstance(error, EvaluationError) else error)
    return None if failed else scored

  def _say(self, step: int, error: BaseException | None) -> None:
    _, reason = self._failure
    new = reason not in self._said
    self._said.add(reason)
    text = reason if new else "as before"
    logging.error(
      "Step %d: the evaluation failed (%s). The step is saved without a score.", step, text
    )
    if new and error and not isinstance(error, _NO_BUG):
      logging.error("This is a bug of this program:", exc_info=error)

  def check(self) -> None:
    """Raises EvaluationError where the last evaluation failed."""
    if self._failure:
      step, reason = self._failure
      raise EvaluationError(
        f"{self._workdir}: step {step} is trained and saved, but was not evaluated: {reason}. Mend "
        "that, and the same command evaluates; it trains no step again."
      )


def make_evaluate(
  config: ConfigDict,
  method: Method,
  dataset: Dataset,
  val: IdList | None,
  meta: dict[str, Any],
  workdir: str,
  writer: MetricWriter,
) -> Callable[..., Scored]:
  """Returns evaluate(state, step, again=False) -> Scored.

  It writes the result file, the picture sheet and, unless `again`, the metrics.  `meta` is that of
  the run's checkpoints.
  """
  info, members = dataset.info, experiment.evaluated_members(config, method)
  if inference.labels_pictures(members):
    return _make_classify(config, members, dataset, val, meta, workdir, writer)
  how = protocol.from_config(config.eval)
  scores = inference.make_scores(config, members, how.network, **how.views())

  def evaluate(state: TrainState, step: int, again: bool = False) -> Scored:
    segmenter = how.segmenter(
      inference.Forward(scores, state.params, state.stats),
      len(info.classes),
      grid=inference.grid(config, members),
      devices=members[0].stack.mesh.size,
    )
    title = f"evaluate step {step}"
    result = run.evaluate_ids(
      segmenter, how.scored(dataset), val.ids, pictures=config.eval.pictures, title=title
    )
    missed = report.never_predicted(result, info.classes)
    if missed and jax.process_index() == 0:
      logging.warning("Step %d: never predicted: %s.", step, ", ".join(missed))
    if not again:
      _write_metrics(writer, result, info, step)
    _, text = record(result, how, val, info, meta, step, workdir)
    return Scored(confusion.scores(result.confusion)["miou"], text)

  return evaluate


def protocol_of(method: Method, config: ConfigDict) -> protocol.Protocol | Seen:
  """Returns how a run evaluates its networks."""
  classifies = inference.labels_pictures(experiment.evaluated_members(config, method))
  return image_labels.seen(config) if classifies else protocol.from_config(config.eval)


def _make_classify(
  config: ConfigDict,
  members: tuple[Member, ...],
  dataset: Dataset,
  val: IdList | None,
  meta: dict[str, Any],
  workdir: str,
  writer: MetricWriter,
) -> Callable[..., Scored]:
  """The same of classifiers of pictures."""
  info, how = dataset.info, image_labels.seen(config)
  probabilities = image_labels.make_probabilities(config, members, how.network)

  def evaluate(state: TrainState, step: int, again: bool = False) -> Scored:
    of_picture = functools.partial(probabilities, state.params, state.stats)
    title = f"evaluate step {step}"
    result = image_labels.classify_ids(of_picture, dataset, val.ids, title)
    scores = image_labels.scores(result)
    if not again:
      rows = {"val/map": scores["map"]}
      rows |= {f"val/ap/{c}": float(x) for c, x in zip(info.classes, scores["ap"]) if x == x}
      writer.write_scalars(step, rows)
      writer.flush()
    _, text = record_classified(result, how, val, info, meta, step, workdir)
    return Scored(scores["map"], text)

  return evaluate


def _write_metrics(
  writer: MetricWriter, result: run.Evaluation, info: DatasetInfo, step: int
) -> None:
  scores = confusion.scores(result.confusion)
  rows = {f"val/{k}": v for k, v in report.means(result).items() if v == v}
  if result.interval:
    rows |= {"val/miou_low": result.interval.low, "val/miou_high": result.interval.high}
  rows |= {f"val/iou/{c}": float(x) for c, x in zip(info.classes, scores["iou"]) if x == x}
  writer.write_scalars(step, rows)
  if result.shown:
    sheet = pictures.sheet(result.shown, info.classes, info.colors)
    writer.write_images(step, {"val/image_truth_prediction": sheet})
  writer.flush()


def record(
  result: run.Evaluation,
  how: protocol.Protocol,
  split: IdList,
  info: DatasetInfo,
  meta: dict[str, Any],
  step: int,
  workdir: str,
  pseudo: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], str]:
  """Writes an evaluation's result file and picture sheet; returns its fields and a table.

  Args:
    result: of `evaluate_ids`.
    how: it was segmented.
    split: what was evaluated.
    info: of the evaluated dataset.
    meta: of the checkpoint: 'config' and 'dataset' of the training run.
    step: of the checkpoint.
    workdir: of the training run.
    pseudo: of `pseudo_labels.describe`.
  """
  fields = report.describe(result, info.classes, _origin(how, split, info, meta, step), pseudo)
  places: dict[str, str] = {}
  if jax.process_index() == 0:
    places["result"] = report.write_result(workdir, fields, how)
    if result.shown:
      places["pictures"] = str(pathlib.Path(places["result"]).with_suffix(".png"))
      sheet = pictures.sheet(result.shown, info.classes, info.colors)
      pictures.write_png(places["pictures"], sheet)
    if result.extremes and result.extremes.worst:
      path = pathlib.Path(places["result"])
      kept = extremes.path_of(path, step)
      extremes.write(kept, result.extremes, path.name, info.classes, info.colors)
  title = f"{split.title} of {info.name}, step {step}, {how.name}"
  text = table.format_report(result, info.classes, title=title, places=places, pseudo=pseudo)
  return fields, text


def record_classified(
  result: Classified,
  how: Seen,
  split: IdList,
  info: DatasetInfo,
  meta: dict[str, Any],
  step: int,
  workdir: str,
) -> tuple[dict[str, Any], str]:
  """Writes the result file of a classifier of pictures; arguments and result as for `record`."""
  origin = _origin(how, split, info, meta, step)
  fields = {**image_labels.describe(result, info.classes), **origin}
  places = {}
  if jax.process_index() == 0:
    places["result"] = report.write_result(workdir, fields, how)
  title = f"{split.title} of {info.name}, step {step}, {how.name}"
  return fields, image_labels.format_report(result, info.classes, title=title, places=places)


def _origin(
  how: Any, split: IdList, info: DatasetInfo, meta: dict[str, Any], step: int
) -> dict[str, Any]:
  return report.origin(
    protocol=how,
    split=split,
    dataset=vars(info),
    trained_on=meta["dataset"],
    step=step,
    config=meta["config"],
    versions=checkpoints.versions(),
  )
