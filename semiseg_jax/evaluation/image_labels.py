"""Which classes are in a picture: a classifier's probabilities, and how good they are."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from semiseg_jax.data.augment.families import make_resize
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.records import Example
from semiseg_jax.errors import DataError, NonFiniteError
from semiseg_jax.evaluation.inference import Trained, make_scores
from semiseg_jax.evaluation.run import labeled_indices, read_ahead
from semiseg_jax.evaluation.table import percent
from semiseg_jax.evaluation.together import Together
from semiseg_jax.members import Member
from semiseg_jax.progress import track
from semiseg_jax.wording import counted

THRESHOLD = 0.2  # published: a class of a higher probability may be in a picture
Tree = Any


@dataclasses.dataclass(frozen=True)
class Seen:
  """What the result of a classifier must state to be repeated; used as a `Protocol`.

  size: (height, width) to which whole pictures are resized.  network: an index, or 'mean' of all.
  stack: which networks.
  """

  size: tuple[int, int]
  network: str
  stack: str = ""

  def as_dict(self) -> dict[str, Any]:
    """For a result file."""
    return {"mode": "picture", **dataclasses.asdict(self), "size": list(self.size)}

  @property
  def name(self) -> str:
    """Short, fit for a file name."""
    return f"{self.stack or 'network'}_{self.network}_pictures_{self.size[0]}x{self.size[1]}"


def seen(config: ConfigDict, network: str | None = None) -> Seen:
  """Returns how a run of this config sees pictures; `network` goes before its `eval.network`."""
  return Seen(tuple(config.data.crop), network or str(config.eval.network), config.eval.stack)


def make_probabilities(
  config: ConfigDict, members: Sequence[Member], network: str
) -> Callable[[Tree, Tree, np.ndarray], jax.Array]:
  """Returns f(params, stats, picture uint8 [H,W,C]) -> probabilities of classes, float32 [K].

  The whole picture is resized to `data.crop` as in training, so that one program serves pictures of
  any size.

  Raises:
    ConfigError: no such network.
  """
  scores = make_scores(config, members, network, probabilities=True)
  resize, rows = make_resize(config), members[0].stack.mesh.size

  def probabilities(params: Tree, stats: Tree, picture: np.ndarray) -> jax.Array:
    image = resize(Example("", picture, None))["image"]
    images = np.zeros((rows, *image.shape), np.uint8)  # a row for each device
    images[0] = image
    valid = np.tile(np.array((0, 0, *image.shape[:2]), np.int32), (rows, 1))
    return scores(params, stats, images, valid)[0, 0, 0]

  return probabilities


def of_trained(trained: Trained, network: str) -> Callable[[np.ndarray], jax.Array]:
  """Returns f(picture uint8 [H,W,C]) -> probabilities of classes, float32 [K]."""
  found = make_probabilities(trained.config, trained.members, network)
  return lambda picture: found(trained.params, trained.batch_stats, picture)


@dataclasses.dataclass(frozen=True)
class Classified:
  """probabilities: float [P,K] of P pictures.  present: bool [P,K], the truth."""

  probabilities: np.ndarray
  present: np.ndarray


def classify_ids(
  probabilities: Callable[[np.ndarray], jax.Array], dataset: Dataset, ids: Sequence[str], title: str
) -> Classified:
  """Classifies the pictures `ids`; those without a labeled pixel are left out.

  Raises:
    DataError: an id that is not there, a picture without a label, or no labeled pixel at all.
    NonFiniteError: a probability is a NaN.
  """
  found, present = [], []
  with Together() as together:
    read = functools.partial(together.read, dataset)
    examples = read_ahead(read, labeled_indices(dataset, ids))
    for example in track(examples, total=len(ids), title=title):
      there = np.bincount(example.label.ravel(), minlength=256)[: len(dataset.info.classes)] > 0
      if there.any():
        found.append(probabilities(example.image))
        present.append(there)
  if not found:
    raise DataError(f"no picture of the list has a labeled pixel in {dataset.root}")
  values = np.stack(jax.device_get(found)).astype(np.float64)
  if not np.isfinite(values).all():
    raise NonFiniteError(
      "the probabilities are not finite: the parameters hold NaN or the network overflows; "
      "evaluate an earlier checkpoint"
    )
  return Classified(values, np.stack(present))


def average_precision(p: np.ndarray, present: np.ndarray) -> float:
  """Returns the sum over thresholds of (recall - the recall before) times precision; one class.

  Args:
    p: probabilities [P]; equal ones share a threshold.
    present: bool [P], the truth; NaN is returned where it is False everywhere.
  """
  if not present.any():
    return float("nan")
  order = np.argsort(-p, kind="stable")
  p, hits = p[order], np.cumsum(present[order])
  last = np.append(p[1:] != p[:-1], True)  # of equal probabilities
  precision = hits[last] / (np.flatnonzero(last) + 1)
  return float((np.diff(hits[last], prepend=0) * precision).sum() / present.sum())


def scores(result: Classified, threshold: float = THRESHOLD) -> dict[str, Any]:
  """Returns 'ap', 'recall', 'precision' and 'pictures' [K], fractions, and 'map', the mean AP.

  Recall and precision are those of a gate at the threshold: a recall below 1 takes classes away
  that are there.  Classes in no picture are NaN and left out of the mean.
  """
  p, present = result.probabilities, result.present
  kept = p >= threshold
  ratio = lambda hit, of: np.where(of > 0, hit / np.maximum(of, 1), np.nan)
  hit, pictures = (kept & present).sum(0), present.sum(0)
  ap = np.array([average_precision(p[:, k], present[:, k]) for k in range(p.shape[1])])
  return {
    "map": float(np.nanmean(ap)),
    "ap": ap,
    "recall": ratio(hit, pictures),
    "precision": ratio(hit, kept.sum(0)),
    "pictures": pictures,
  }


def describe(result: Classified, classes: Sequence[str]) -> dict[str, Any]:
  """The scores of a result file, as fractions."""
  found = scores(result)
  or_null = lambda x: None if np.isnan(x) else float(x)
  named = {k: dict(zip(classes, map(or_null, found[k]))) for k in ("ap", "recall", "precision")}
  return {
    "mean_average_precision": found["map"],
    "average_precision": named["ap"],
    "threshold": THRESHOLD,
    "recall": named["recall"],
    "precision": named["precision"],
    "pictures": len(result.present),
  }


def format_report(
  result: Classified, classes: Sequence[str], *, title: str, places: Mapping[str, str]
) -> str:
  """A table of the scores per class, their mean, and where things lie."""
  found, width = scores(result), max(map(len, (*classes, "mean AP", *places)))
  lines = [title, "", f"  {'class':{width}}      AP  recall  precision  pictures"]
  rows = zip(classes, *(found[k] for k in ("ap", "recall", "precision", "pictures")))
  for name, ap, recall, precision, count in rows:
    numbers = f"{percent(ap)}  {percent(recall)}     {percent(precision)}  {count:8d}"
    lines.append(f"  {name:{width}}  {numbers}")
  lines.append(f"  {'mean AP':{width}}  {percent(found['map'])}")
  lines.append(
    f"  of {counted(len(result.present), 'picture')}; recall and precision at {THRESHOLD}"
  )
  lines += [""] + [f"  {what:{width}}  {where}" for what, where in places.items()]
  return "\n".join(lines).rstrip()
