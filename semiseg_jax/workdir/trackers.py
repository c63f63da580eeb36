"""Experiment trackers, Weights & Biases and MLflow, behind the calls of the other writers.

A run has one record in each, however often it is started: WORKDIR/trackers.json keeps its id, and
the last step of which all rows are in it.  A run that was killed computes the steps after its last
checkpoint again, with the same numbers: those that the record has are not written twice.  What it
lacks up to that checkpoint (the tracker had failed, or was asked for later) is taken from
metrics.jsonl.

A tracker that cannot be reached ends a run at its start, with the reason; a run under way goes on
without it.  Neither package is imported where `runtime.track` does not name it.
"""

import dataclasses
import importlib
import json
import pathlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from absl import logging

from semiseg_jax import files, seals
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.workdir import store

FILE = "trackers.json"
_NO_METRIC = ("step", "time")  # of a row of metrics.jsonl
MODULES = {
  "wandb": "semiseg_jax.workdir.wandb_record",
  "mlflow": "semiseg_jax.workdir.mlflow_record",
}


@dataclasses.dataclass(frozen=True)
class Tracked:
  """What a run tells its trackers.

  Attributes:
    names: 'wandb', 'mlflow', or several joined with '+'; '' = none.
    config: 'block.key' -> plain value.
    free: keys whose change leaves a run the same.
    steps: after which the run is complete.
  """

  names: str
  config: Mapping[str, Any]
  free: Collection[str]
  steps: int


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a record is, or is to be.

  Attributes:
    workdir: folder of the run on this machine.
    name: of the run, for people.
    saved: what WORKDIR/trackers.json says of the record; {} of a new one.
    config: 'block.key' -> plain value.
    in_store: whether the folder is the mirror of an object store.
  """

  workdir: pathlib.Path
  name: str
  saved: Mapping[str, Any]
  config: Mapping[str, Any]
  in_store: bool


class Record(Protocol):
  """The record of a run in a tracker.  Its calls raise what the tracker's package raises."""

  saved: dict[str, Any]  # what finds it again, plain values
  where: str  # for people
  delay: float  # seconds after which no kill takes back what was written

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes numbers, also of an earlier step than before."""

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes uint8 pictures [H,W,C]."""

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Writes texts."""

  def close(self, complete: bool) -> None:
    """Ends this start of a run; brings everything to its place."""


def start(
  tracked: Tracked, workdir: str, resume_step: int, rows: Sequence[Mapping[str, Any]]
) -> list["Sheltered"]:
  """Opens the record of a run in each tracker; says where.

  Args:
    tracked: of the run.
    workdir: its folder.
    resume_step: the restored step, 0 when nothing was restored.
    rows: of metrics.jsonl up to there.

  Raises:
    ConfigError: a package is missing, or a tracker cannot be reached.
    CheckpointError: trackers.json is damaged.
  """
  names = [name for name in tracked.names.split("+") if name]
  if not names:
    return []
  file = pathlib.Path(workdir) / FILE
  known, recipe = _read(file), _recipe(tracked)
  writers = []
  for name in names:
    saved = known.get(name, {})
    if not resume_step and saved.get("recipe") != recipe:
      saved = {}  # another run was begun here, and left no checkpoint
    place = Place(
      pathlib.Path(workdir).absolute(),
      "/".join(pathlib.PurePath(store.named(workdir)).parts[-2:]),
      saved,
      tracked.config,
      store.of(workdir) is not None,
    )
    record = _opened(name, place)
    until = saved.get("until", 0)
    known[name] = {**record.saved, "recipe": recipe, "until": until}
    _write(file, known)
    print(store.named(f"  tracked    {name}: {record.where}"), flush=True)
    writer = Sheltered(name, record, file, until, max(resume_step, 0), tracked.steps)
    writer.fill(rows)
    writers.append(writer)
  return writers


def _recipe(tracked: Tracked) -> str:
  return seals.digest({k: v for k, v in tracked.config.items() if k not in tracked.free})


def _opened(name: str, place: Place) -> Record:
  module = importlib.import_module(MODULES[name])
  try:
    return module.open_record(place)
  except ImportError as error:
    raise ConfigError(
      f"runtime.track={name}: {error}: pip install {module.PACKAGES}, or take the key away."
    ) from error
  except module.errors() as error:
    said = " ".join(str(error).split())[:300].rstrip(".")
    raise ConfigError(
      f"runtime.track={name}: the tracker cannot be used ({said}). {module.MEND}"
    ) from error


def _read(file: pathlib.Path) -> dict[str, dict[str, Any]]:
  try:
    known = json.loads(file.read_bytes())
    right = isinstance(known, dict) and all(isinstance(one, dict) for one in known.values())
  except FileNotFoundError:
    return {}
  except (ValueError, RecursionError):
    right = False
  if not right:
    raise CheckpointError(
      f"{file} is damaged, which says where the trackers have this run: delete it, and a new "
      "record is begun."
    )
  return known


def _write(file: pathlib.Path, known: Mapping[str, Any]) -> None:
  files.write_text(file, json.dumps(known, indent=1) + "\n")


class Sheltered:
  """A writer into a record, which costs no run: the first error of the tracker is said and ends it.

  Args of the constructor:
    name: of the tracker.
    record: of the run.
    file: trackers.json.
    until: all rows up to this step are in the record.
    start: step at which this start of the run begins.
    steps: after which the run is complete.
  """

  def __init__(
    self, name: str, record: Record, file: pathlib.Path, until: int, start: int, steps: int
  ):
    self._name, self._record, self._file = name, record, file
    self._until, self._last, self._steps = until, max(until, start), steps
    self._reached = start
    self._fails = False
    self._whole: list[tuple[int, float]] = []  # steps all of whose rows are written, and since when

  def fill(self, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows of metrics.jsonl that the record lacks."""
    for row in rows:
      numbers = {k: v for k, v in row.items() if isinstance(v, int | float) and k not in _NO_METRIC}
      if numbers:
        self._write("write_scalars", row["step"], numbers)
    if rows:
      self._whole.append((rows[-1]["step"], time.monotonic()))

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes numbers that the record does not have."""
    if step > self._last:  # a step is whole when the next one comes
      self._whole.append((self._last, time.monotonic()))
      self._safely(self._keep_lasting)
    self._last, self._reached = max(self._last, step), step
    self._write("write_scalars", step, {k: float(np.asarray(v)) for k, v in scalars.items()})

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures; several of one name get numbers."""
    single = {}
    for name, pictures in images.items():
      pictures = np.asarray(pictures)
      many = {f"{name}/{i}": picture for i, picture in enumerate(pictures)}
      single |= {name: pictures} if pictures.ndim == 3 else many
    self._write("write_images", step, single)

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Writes texts."""
    self._write("write_texts", step, dict(texts))

  def write_hparams(self, hparams: Mapping[str, Any]) -> None:
    """A record has the config from its start on."""

  def flush(self) -> None:
    """Trackers send by themselves."""

  def close(self) -> None:
    """Ends the record of this start."""
    self._safely(self._record.close, self._reached >= self._steps)
    self._safely(self._keep, self._last)

  def _write(self, what: str, step: int, values: Mapping[str, Any]) -> None:
    if step > self._until:
      self._safely(getattr(self._record, what), step, values)

  def _keep_lasting(self) -> None:
    ends = time.monotonic() - self._record.delay
    lasting = [step for step, since in self._whole if since <= ends]
    if lasting:
      self._whole = self._whole[len(lasting) :]
      self._keep(lasting[-1])

  def _keep(self, step: int) -> None:
    """Notes that all rows up to a step are in the record."""
    known = _read(self._file)
    if known[self._name]["until"] < step:
      known[self._name]["until"] = step
      _write(self._file, known)

  def _safely(self, call: Callable[..., None], *values: Any) -> None:
    if self._fails:
      return
    try:
      call(*values)
    except Exception as error:  # of a foreign package, its server or a disk: none is worth the run
      self._fails = True
      said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
      logging.error(
        "The tracker %s failed (%s). The run goes on without it; its rows are in metrics.jsonl, "
        "and the next start brings them to the same record.",
        self._name,
        said,
      )
