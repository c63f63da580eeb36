"""Orbax checkpoints: everything that a resumed run or an evaluation needs, and nothing half-read.

WORKDIR/checkpoints/STEP holds three items:
  model  parameters and batch statistics of every stack: all that evaluation needs
  train  step, optimizer state, the method's memory
  meta   JSON under a seal: config, networks, dataset, splits, versions, checksums, step, score

Fixed nets are in none of them.  All calls of Orbax are in this file; what `meta` says is read and
checked by `descriptions`.
"""

import contextlib
import importlib.metadata
import json
import logging as std_logging
import os
import pathlib
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as managers

from semiseg_jax import peers, sharding, version
from semiseg_jax.errors import CheckpointError
from semiseg_jax.state import TrainState
from semiseg_jax.workdir import descriptions, disk, store
from semiseg_jax.workdir.descriptions import FORMAT

Tree = Any
METRIC = "miou"
_TRIED = 5  # steps in which a reader of a damaged one looks for a whole one
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "opencv-python-headless")


def _is_news(record: std_logging.LogRecord) -> bool:
  """Orbax warns of saves without an evaluation, of being read only, of items without metadata."""
  message, known = record.getMessage(), ("did not provide metrics", "read only", "read_only")
  return not any(text in message for text in (*known, "Metadata file does not exist"))


logging.get_absl_logger().addFilter(_is_news)


def versions() -> dict[str, Any]:
  """Returns what decides the numbers beside the config: this program, packages, the device.

  'semiseg_jax', 'commit' and 'changed' are those of `version.describe`.
  """
  own = version.describe()
  found = {"semiseg_jax": own["version"], "commit": own["commit"], "changed": own["changed"]}
  found |= {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "not installed as a package"
  return found


@jax.jit
def _sum_of_bits(tree: Tree) -> jax.Array:
  def bits(x: jax.Array) -> jax.Array:
    if jnp.issubdtype(x.dtype, jnp.floating):
      x = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    return x.astype(jnp.uint32).sum(dtype=jnp.uint32)

  return sum((bits(x) for x in jax.tree.leaves(tree)), jnp.uint32(0))


def checksum(tree: Tree) -> int:
  """Returns the sum modulo 2^32 of the bit patterns of all numbers.

  Integer addition, so it does not depend on the devices or the order; one flipped bit changes it.
  """
  if not sharding.in_host_memory(tree):
    return int(_sum_of_bits(tree))
  bits = (np.asarray(x) for x in jax.tree.leaves(tree))
  bits = (x.view(f"u{x.itemsize}") if jnp.issubdtype(x.dtype, jnp.floating) else x for x in bits)
  return sum(int(x.astype(np.uint32).sum(dtype=np.uint32)) for x in bits) % 2**32


def _verify(part: str, tree: Tree, sums: dict[str, int]) -> None:
  if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree)):
    raise CheckpointError(f"numbers of {part} are missing")
  found, saved = checksum(tree), sums.get(part)
  if found != saved:
    raise CheckpointError(f"{part} has the checksum {found}, saved was {saved}")


def spaced_steps(steps: int, count: int) -> tuple[int, ...]:
  """Returns floor(j steps / count) for j = 1 .. count: equally spaced, the last step among them."""
  return tuple(j * steps // count for j in range(1, count + 1))


def _items(ts: TrainState, format: int = FORMAT) -> tuple[Tree, Tree]:
  """The items 'model' and 'train' as a format has them."""
  model = {"params": ts.params, "batch_stats": ts.stats}
  train = {"step": ts.step, "opt_state": ts.opt_state}
  if format == 1:
    (memory,) = ts.memory.values() or (None,)
    return model, {**train, "state": {"memory": memory} if memory else {}}
  return model, {**train, "memory": ts.memory}


def _state(model: Tree, train: Tree, like: TrainState) -> TrainState:
  """The train state of items of any format; `like` names the memory and has the fixed nets."""
  memory = (
    train["memory"]
    if "memory" in train
    else {name: train["state"]["memory"] for name in like.memory}
  )
  params, stats = model["params"], model["batch_stats"]
  return TrainState(train["step"], params, stats, memory, train["opt_state"], like.fixed)


def _stack_of(model: Tree, name: str) -> Tree:
  return model["params"][name], model["batch_stats"][name]


class _Manager(ocp.CheckpointManager):
  """Orbax's manager, but scores are those of the sealed descriptions.

  Orbax reads every score when it opens a folder, and fails at one that it cannot read.

  Attributes:
    unscored: step -> why its score is not known, of those that may have one.
  """

  def __init__(self, *args: Any, **options: Any):
    self.unscored: dict[int, str] = {}
    self._told: set[int] = set()
    super().__init__(*args, **options)

  def metrics(self, step: int) -> dict[str, float] | None:
    """Returns what was saved with a step; None where there is nothing, or nothing readable."""
    folder = self.directory / str(step)
    file = folder / "metrics" / "metrics"
    try:
      saved = json.loads(file.read_text())
    except FileNotFoundError:
      saved = None
    except (OSError, ValueError, RecursionError):
      saved = ()
    miou, wrong = descriptions.score(folder, saved)
    if wrong and miou is None and saved is not None:
      self.unscored[step] = wrong
    if wrong and step not in self._told:
      self._told.add(step)
      counts = "as not evaluated" if miou is None else f"with the mIoU {miou} of its description"
      logging.error("%s: %s; the step counts %s.", folder, wrong, counts)
    return None if miou is None else {METRIC: miou}


def is_whole(workdir: str | pathlib.Path, step: int, meta: dict[str, Any]) -> bool:
  """Whether the numbers of a checkpoint can be read and are those of its step and its `meta`.

  They are read to the host; nothing is compiled.
  """
  folder, found = pathlib.Path(workdir).absolute() / "checkpoints" / str(step), {}
  store.fetch(folder)
  try:
    for item in ("model", "train"):
      reader = ocp.PyTreeCheckpointer()
      leaves = reader.metadata(folder / item).item_metadata.tree
      numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), leaves)
      found[item] = reader.restore(folder / item, restore_args=numpy)
  except Exception as error:  # Orbax and TensorStore raise many kinds
    logging.error("%s cannot be read: %s", folder, str(error)[:300])
    return False
  model = found["model"]
  sums = {"train": checksum(found["train"])}
  sums |= {name: checksum(_stack_of(model, name)) for name in model["params"]}
  return sums == meta["checksums"] and int(found["train"]["step"]) == step


def newest(workdir: str | pathlib.Path) -> tuple[int, dict[str, Any]] | None:
  """Returns (step, meta) of the newest checkpoint whose meta is whole; None: there is none."""
  if not (pathlib.Path(workdir) / "checkpoints").is_dir():
    return None
  reader = Checkpoints(workdir, read_only=True)
  try:
    return reader.newest()
  finally:
    reader.close()


def _undescribed(path: pathlib.Path) -> list[pathlib.Path]:
  """The folders of steps at whose metadata Orbax fails when it opens `path`."""
  damaged, names = [], ocp.path.step.standard_name_format()
  folders = sorted(path.iterdir()) if path.is_dir() else []
  for folder in folders:
    if folder.name.isdecimal() and folder.is_dir():
      try:
        names.find_step(path, int(folder.name)).commit_timestamp  # noqa: B018
      except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError):
        damaged.append(folder)
  return damaged


def _set_aside(folder: pathlib.Path) -> None:
  """Moves a step to the folder `unusable` beside the checkpoints, and says so."""
  target = folder.parents[1] / "unusable" / f"{folder.name}-{os.getpid()}"
  target.parent.mkdir(exist_ok=True)
  folder.rename(target)
  logging.error("Moved the unusable checkpoint of step %s to %s.", folder.name, target)


def _only_this_process() -> ocp.options.MultiprocessingOptions:
  """Orbax is to wait for no other process."""
  me = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
  )


class Checkpoints:
  """The checkpoints of one workdir.

  Keeps the newest `keep` (None: all), the best by mIoU and those of the steps `always`.  Saving is
  asynchronous: `save` returns once the state has been copied off the device.
  """

  def __init__(
    self,
    workdir: str | pathlib.Path,
    *,
    keep: int | None = None,
    always: Sequence[int] = (),
    read_only: bool = False,
  ):
    self.path = pathlib.Path(workdir).absolute() / "checkpoints"
    if read_only and not self.path.is_dir():
      raise CheckpointError(
        f"No checkpoints under {self.path}: is --workdir the folder that a training run wrote?"
      )
    best = managers.BestN(
      get_metric_fn=lambda metrics: metrics[METRIC], n=1, keep_checkpoints_without_metrics=False
    )
    self._several = jax.process_count() > 1
    self._apart = store.of(self.path) is not None and self._several
    apart: dict[str, Any] = {}
    if self._apart:  # each process has a disk of its own
      apart["multiprocessing_options"] = _only_this_process()
      self.path.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
      preservation_policy=managers.AnyPreservationPolicy(
        [managers.LatestN(keep), best, managers.CustomSteps(always)]
      ),
      best_fn=lambda metrics: metrics[METRIC],
      best_mode="max",
      create=not read_only and not self._apart,
      read_only=read_only,
      **apart,
    )
    self._set_undescribed_aside(read_only)
    self._manager = _Manager(self.path, options=options, item_names=("model", "train", "meta"))
    strange = descriptions.strangers(self._manager.directory)
    if strange:
      shown = ", ".join(strange)
      logging.warning("%s holds what no run wrote, which is left alone: %s.", self.path, shown)

  def _set_undescribed_aside(self, read_only: bool) -> None:
    """One step of which Orbax cannot read what it says of all its items would hide the others."""
    damaged = _undescribed(self.path)
    if damaged and (read_only or jax.process_count() > 1):
      raise CheckpointError(
        f"{', '.join(map(str, damaged))} is damaged: its metadata cannot be read. Move it away; "
        "other steps can be read then."
      )
    for folder in damaged:
      _set_aside(folder)

  def steps(self) -> list[int]:
    """Returns the steps there are, oldest first."""
    self._manager.reload()
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """Returns the step of the highest mIoU, None where nothing was evaluated.

    Raises:
      CheckpointError: the score of a step is damaged, so that the best one is not known.
    """
    unknown = {step: why for step, why in self._manager.unscored.items() if step in self.steps()}
    if unknown:
      raise CheckpointError(
        f"Which checkpoint in {self.path} is best is not known: "
        + "; ".join(f"step {step}: {why}" for step, why in unknown.items())
        + f". Choose one by its number; there are {self.steps()}."
      )
    return self._manager.best_step()

  def newest(self) -> tuple[int, dict[str, Any]] | None:
    """Returns (step, meta) of the newest checkpoint whose meta is whole; None: there is none."""
    for step in reversed(self.steps()):
      with contextlib.suppress(CheckpointError):  # told by name when the run is restored
        return step, self._described(step)
    return None

  def save(
    self, ts: TrainState, meta: dict[str, Any], miou: float | None, *, step: int | None = None
  ) -> None:
    """Saves the state after `ts.step` updates; `miou` where this step was evaluated.

    Args:
      ts: the state.
      meta: what is said of the run.
      miou: from 0 to 1; None, or another number, where the step was not evaluated.
      step: of the loop, at which the state must be.

    Raises:
      CheckpointError: the state is at another step, a checkpoint of this or a later step is in the
        way, or this one or the one before, which was still being written, cannot be written.
    """
    at = int(ts.step)
    if at != (at if step is None else step):
      raise CheckpointError(
        f"After step {step} the state is at step {at}: {abs(step - at)} updates are not in it. "
        "Nothing is saved; the checkpoints before it are whole, and the same command goes on there."
      )
    miou = float(miou) if miou is not None and descriptions.is_score(float(miou)) else None
    model, train = _items(ts)
    sums = {"train": checksum(train), **{n: checksum(_stack_of(model, n)) for n in ts.params}}
    meta = descriptions.make(meta, step=at, sums=sums, miou=miou, versions=versions())
    if self._apart:
      model, train = jax.tree.map(sharding.gathered, (model, train))
      if jax.process_index():
        return  # the first process brings it to the store
    with self._writing():
      saved = self._manager.save(
        at,
        args=ocp.args.Composite(
          model=ocp.args.StandardSave(model),
          train=ocp.args.StandardSave(train),
          meta=ocp.args.JsonSave(meta),
        ),
        metrics=None if miou is None else {METRIC: miou},
      )
    if not saved:
      raise CheckpointError(
        f"Step {at} was not saved: {self.path} holds {self.steps()}. Move the later ones "
        "away, or use another --workdir."
      )

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # of the file system, by way of TensorStore and Orbax: many kinds
      raise CheckpointError(
        f"A checkpoint cannot be written to {self.path}: {disk.why(error, self.path.parent)}. The "
        "checkpoints before it are whole, and the same command goes on."
      ) from error

  def restore(
    self, like: TrainState, check: Callable[[dict[str, Any]], None] = lambda meta: None
  ) -> TrainState | None:
    """Returns the newest readable state, None where there is no checkpoint.

    An unreadable one is named loudly, moved to the folder `unusable` beside the checkpoints (or it
    would stop later saves), and the one before it is taken; nothing is deleted.

    Args:
      like: a state of the same shapes and placement; only those are read.
      check: called with the `meta` of the one to be read; what it raises goes out.

    Raises:
      CheckpointError: there are checkpoints and none can be read.
    """
    failures: dict[int, str] = {}
    for step in reversed(self.steps()):
      store.fetch(self.path / str(step))  # a store that does not answer is no damage
      with self._noting(step, failures):
        meta = self._described(step)
      if step in failures:
        continue
      check(meta)
      with self._noting(step, failures):
        found = self._read(step, like, meta)
      if step in failures:
        continue
      with self._noting(step, failures):
        state = self._verified(step, found, like, meta)
      if step not in failures:
        self._move_aside(list(failures))
        return state
    if failures:
      raise CheckpointError(
        f"None of the checkpoints in {self.path} fits this run:\n  "
        + "\n  ".join(failures.values())
        + "\nUse the config of that run, or another --workdir for a new one."
      )
    return None

  @contextlib.contextmanager
  def _noting(self, step: int, failures: dict[int, str]) -> Iterator[None]:
    """Around a part of reading a step; what fails on one of several processes fails on all."""
    wrong = ""
    try:
      yield
    except Exception as error:  # Orbax raises many kinds; each is reported, none is hidden
      if peers.is_gone(error):
        raise
      said = str(error).partition(" See full TensorStore")[0]
      wrong = f"{type(error).__name__}: {said[:500]}"
    found = peers.failures(wrong)
    if found:
      elsewhere = "; ".join(f"of process {number}, {said}" for number, said in found.items())
      failures[step] = f"step {step}: {wrong or elsewhere}"
      logging.error("Checkpoint %s cannot be used. %s", self.path / str(step), failures[step])

  def _move_aside(self, steps: list[int]) -> None:
    if not steps:
      return
    if jax.process_index() == 0 or self._apart:
      for step in steps:
        _set_aside(self.path / str(step))
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices("unusable checkpoints moved")
    self._manager.reload()

  def reached_preemption(self, step: int) -> bool:
    """Whether all processes of a distributed run are to save and stop after this step."""
    return self._manager.reached_preemption(step)

  def _read(self, step: int, like: TrainState, meta: dict[str, Any]) -> tuple[Tree, Tree]:
    """The items 'model' and 'train', placed as those of `like`."""

    def abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

    wanted = _items(like, meta.get("format", 1))
    to_host = lambda x: np.empty(x.shape, x.dtype)
    model, train = jax.tree.map(to_host if self._apart else abstract, wanted)
    found = self._alone(step, model, train) if self._several else self._together(step, model, train)
    return jax.tree.map(sharding.placed_as, found, wanted) if self._apart else found

  def _together(self, step: int, model: Tree, train: Tree) -> tuple[Tree, Tree]:
    args = ocp.args.Composite(
      model=ocp.args.StandardRestore(model), train=ocp.args.StandardRestore(train)
    )
    restored = self._manager.restore(step, args=args)
    return restored["model"], restored["train"]

  def _alone(self, step: int, *items: Tree) -> tuple[Tree, Tree]:
    """The same by one of several processes, which waits for no other: that one may read nothing."""
    options = _only_this_process()
    found = []
    for name, item in zip(("model", "train"), items, strict=True):
      handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
      reader = ocp.Checkpointer(handler, multiprocessing_options=options)
      folder = self.path / str(step) / name
      found.append(reader.restore(folder, args=ocp.args.StandardRestore(item)))
    return tuple(found)

  def _verified(
    self, step: int, found: tuple[Tree, Tree], like: TrainState, meta: dict[str, Any]
  ) -> TrainState:
    """All processes compute the checksums together, of what each of them has read."""
    model, train = found
    _verify("train", train, meta["checksums"])
    for name in model["params"]:
      _verify(name, _stack_of(model, name), meta["checksums"])
    if int(train["step"]) != step:
      raise CheckpointError(f"its state is at step {int(train['step'])}, its folder at {step}")
    return _state(model, train, like)

  def meta(self, step: int) -> dict[str, Any]:
    """Returns the `meta` item of a step.

    Raises:
      CheckpointError: it cannot be read, or is not what was written; names a whole step.
    """
    with self._damaged(step):
      return self._described(step)

  def _described(self, step: int) -> dict[str, Any]:
    return descriptions.read(self._manager.directory / str(step))

  @contextlib.contextmanager
  def _damaged(self, step: int) -> Iterator[None]:
    """Around what reads a step: an error says which folder it is, and what there is instead."""
    try:
      yield
    except CheckpointError as error:
      raise CheckpointError(
        f"{self.path / str(step)} is damaged: {error}. {self._instead_of(step)}"
      ) from error

  def _instead_of(self, step: int) -> str:
    others = sorted(self.steps(), key=lambda other: (other > step, abs(other - step)))
    for other in others[:_TRIED]:
      with contextlib.suppress(CheckpointError):
        if other != step and is_whole(self.path.parent, other, self._described(other)):
          return (
            f"Step {other} is whole: take it with --step={other}, or move the damaged folder away. "
            "A run that goes on passes over the damaged one by itself."
          )
    return f"No other step in {self.path} is whole: there are {self.steps()}."

  def restore_model(
    self, step: int, shapes: dict[str, tuple[Tree, Tree]]
  ) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """Returns (params, batch_stats) by stack.

    Args:
      step: of the checkpoint.
      shapes: stack -> its shapes as `stacks.shapes` gives them; no other stack is read.

    Raises:
      CheckpointError: the step cannot be read, or is damaged.
    """
    store.fetch(self.path / str(step))
    params, stats = ({name: pair[i] for name, pair in shapes.items()} for i in (0, 1))
    wanted = {"params": params, "batch_stats": stats}
    restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
    arg = ocp.args.PyTreeRestore(wanted, restore_args=restore_args, partial_restore=True)
    with self._damaged(step):
      sums = self._described(step)["checksums"]
      try:
        found = ocp.PyTreeCheckpointer().restore(self.path / str(step) / "model", args=arg)
      except Exception as error:  # Orbax and TensorStore raise many kinds
        raise CheckpointError(f"its numbers cannot be read ({str(error)[:300]})") from error
      for name in shapes:
        _verify(name, _stack_of(found, name), sums)
    return found["params"], found["batch_stats"]

  def wait(self) -> None:
    """Returns when the last save is complete on disk; CheckpointError where it cannot be."""
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then releases the manager."""
    self.wait()
    self._manager.close()
