"""Results as a page shows them: which files count, and what makes two results comparable."""

import dataclasses
import json
import math
import pathlib
from typing import Any

from semiseg_jax.arguments import command
from semiseg_jax.evaluation import result_files, told_protocol

EVALUATE = "semiseg_jax.evaluate"


class Damaged(str):
  """A note on a file that is damaged, and how to mend it; other notes are of what is not there."""


@dataclasses.dataclass(frozen=True)
class Result:
  """A result file.

  Attributes:
    file: its path.
    fields: as `result_files.read` gives them.
    others: files of the same evaluation that tell less.
  """

  file: pathlib.Path
  fields: dict[str, Any]
  others: tuple[pathlib.Path, ...] = ()

  @property
  def step(self) -> int:
    """Of the checkpoint."""
    return int(self.fields["checkpoint_step"])

  @property
  def score(self) -> float:
    """The mIoU, of classifiers of pictures the mean AP; a fraction."""
    return float(self.fields[self.names[0]])

  @property
  def score_name(self) -> str:
    """Of the score."""
    return "mIoU" if "miou" in self.fields else "mean AP"

  @property
  def per_class(self) -> dict[str, float]:
    """Class -> its IoU, or its AP; NaN where it has none."""
    values = self.fields[self.names[1]]
    return {str(name): math.nan if x is None else float(x) for name, x in values.items()}

  @property
  def interval(self) -> tuple[float, float] | None:
    """The 95 % interval of the score over pictures, None where it is not known."""
    about = self.fields.get("miou_interval")
    return (float(about["low"]), float(about["high"])) if about else None

  @property
  def names(self) -> tuple[str, str]:
    """The fields of the score and of those of the classes."""
    if "miou" in self.fields:
      return "miou", "iou"
    return "mean_average_precision", "average_precision"


def read(folder: pathlib.Path, own: str | None, notes: list[str]) -> list[Result]:
  """Returns the results in a folder: of every way to evaluate that of the latest step.

  Args:
    folder: `evaluations` of a run, which need not be there.
    own: the list that the run itself evaluates, its name or path; its results come first.
    notes: gets a sentence for each file that is left out, a `Damaged`.
  """
  latest: dict[str, Result] = {}
  for file in sorted(folder.glob("*.json")):
    try:
      result = Result(file, result_files.read(file))
      _check(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
      said = f"evaluations/{file.name} is damaged or no result ({_short(error)}): it is left out"
      notes.append(Damaged(f"{said}; delete it, and {command(EVALUATE)} writes it anew."))
      continue
    before = latest.get(way(result))
    latest[way(result)] = result if before is None else _latest(before, result)
  rank = lambda result: (not _is_own(result, own), -result.step, _is_given(result))
  return sorted(latest.values(), key=rank)


def _short(error: Exception) -> str:
  """What is wrong, in a line."""
  said = " ".join(str(error).split())[:160]
  return f"it has no {said}" if isinstance(error, KeyError) else said


def _is_own(result: Result, own: str | None) -> bool:
  """Whether a result is of the list that a run evaluates, a name or the path of a file."""
  split = result.fields["split"]
  return own in (split["name"], split.get("path", split["name"]))


def _latest(before: Result, result: Result) -> Result:
  """The later one; of one step that with more fields, such as those of calibration."""
  if before.step != result.step:
    return max(before, result, key=lambda one: one.step)
  more, less = sorted((before, result), key=lambda one: -len(one.fields))
  return dataclasses.replace(more, others=(*more.others, *less.others, less.file))


def _check(result: Result) -> None:
  """Reads all that a page needs of a result, so that what is not there raises here."""
  fields = result.fields
  if not result.per_class:
    raise ValueError("it has no classes")
  lists = [fields["split"], *((fields.get("trained_on") or {}).get("splits") or {}).values()]
  names = [about[key] for about in lists for key in ("name", "sha256")]
  names += [fields["dataset"]["fingerprint"], fields["protocol"]["mode"]]
  if not all(isinstance(name, str) for name in names):
    raise TypeError("its list, dataset or protocol has no name")
  if not all(isinstance(fields.get(block) or {}, dict) for block in _BLOCKS):
    raise TypeError(f"one of {', '.join(_BLOCKS)} is no block of fields")
  _check_numbers(result)
  side, matrix = len(result.per_class), fields.get("confusion", [])
  if matrix and [len(row) for row in matrix] != [side] * side:
    raise ValueError("its confusion matrix is not square")
  if not all(isinstance(x, int) and x >= 0 for row in matrix for x in row):
    raise ValueError("its confusion matrix holds other things than counts")


_OF_CLASSES = ("f1", "recall", "precision", "boundary_iou")
_BLOCKS = ("protocol", "trained_on", "versions", "calibration", "pseudo_labels")


def _check_numbers(result: Result) -> None:
  fields = result.fields
  numbers = [result.score, result.step, *(result.interval or ()), *fields[result.names[1]].values()]
  for name in _OF_CLASSES:
    numbers += (fields.get(name) or {}).values()
  table = fields.get("calibration")
  if table:
    numbers += [table["ece"], *table["probability"], *table["accuracy"]]
  table = fields.get("pseudo_labels")
  if table:
    numbers += [x for row in table["by_threshold"] for x in (row["threshold"], *row.values())]
    numbers += [] if isinstance(table["split"]["name"], str) else [table]
  wrong = [x for x in numbers if not (x is None or _is_number(x))]
  if wrong:
    raise ValueError(f"{str(wrong[0])[:40]!r} stands where a number should")


def _is_number(value: Any) -> bool:
  return type(value) in (int, float) and abs(value) < 1e18


def _is_given(result: Result) -> bool:
  """Whether a flag of a command chose more than the config says: a gate, several views."""
  how = result.fields["protocol"]
  return bool(how.get("gate") or how.get("flip") or len(how.get("scales") or [1]) > 1)


def way(result: Result) -> str:
  """Returns what two results must share to be compared: protocol, list and dataset."""
  fields = result.fields
  same = (protocol(result), fields["split"]["sha256"], fields["dataset"]["fingerprint"])
  return json.dumps(same, sort_keys=True)


def protocol(result: Result) -> dict[str, Any]:
  """Returns the protocol of a result, what an older one does not tell at its default."""
  how = told_protocol.completed(result.fields["protocol"])
  return {key: value for key, value in how.items() if value is not None}
