"""Orbax checkpoints: everything that a resumed run or an evaluation needs, and nothing half-read.

WORKDIR/checkpoints/STEP holds three items:
  model  parameters and batch statistics of every stack: all that evaluation needs
  train  step, optimizer state, the method's memory
  meta   JSON: config, networks, dataset, splits, versions, checksums

Fixed nets are in none of them.  All calls of Orbax are in this file.
"""

import contextlib
import importlib.metadata
import json
import logging as std_logging
import math
import os
import pathlib
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as managers

from semiseg_jax import sharding, version
from semiseg_jax.errors import CheckpointError
from semiseg_jax.state import TrainState
from semiseg_jax.workdir import store

Tree = Any
METRIC = "miou"
FORMAT = 2  # 1: without networks in `meta`; the memory in the item 'state' of 'train'
_OF_META = ("config", "checksums")  # what every checkpoint says
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
  """Orbax's manager, but an unreadable score counts as no score.

  Orbax reads every score when it opens a folder, and fails at one that it cannot read.
  """

  def __init__(self, *args: Any, **options: Any):
    self._told: set[int] = set()
    super().__init__(*args, **options)

  def metrics(self, step: int) -> dict[str, float] | None:
    """Returns what was saved with a step; None where there is nothing, or nothing readable."""
    file = pathlib.Path(self.directory) / str(step) / "metrics" / "metrics"
    try:
      miou = json.loads(file.read_text())[METRIC]
    except FileNotFoundError:
      return None
    except (OSError, ValueError, KeyError, TypeError):
      miou = None
    if isinstance(miou, float) and math.isfinite(miou):
      return {METRIC: miou}
    if step not in self._told:
      self._told.add(step)
      logging.error("%s is damaged: its step counts as one that was not evaluated.", file)
    return None


def is_whole(workdir: str | pathlib.Path, step: int, meta: dict[str, Any]) -> bool:
  """Whether the numbers of a checkpoint can be read and have the checksums of its `meta`.

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
  return sums == meta["checksums"]


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
    self._apart = store.of(self.path) is not None and jax.process_count() > 1
    apart: dict[str, Any] = {}
    if self._apart:  # each process has a disk of its own: Orbax is to wait for no other
      me = jax.process_index()
      apart["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
      )
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
    self._manager = _Manager(self.path, options=options, item_names=("model", "train", "meta"))

  def steps(self) -> list[int]:
    """Returns the steps there are, oldest first."""
    self._manager.reload()
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """Returns the step of the highest mIoU, None where nothing was evaluated."""
    return self._manager.best_step()

  def save(self, ts: TrainState, meta: dict[str, Any], miou: float | None) -> None:
    """Saves the state after `ts.step` updates; `miou` where this step was evaluated.

    Raises:
      CheckpointError: a checkpoint of this or a later step is in the way, or this one or the one
        before, which was still being written, cannot be written.
    """
    evaluated = miou is not None and math.isfinite(miou)
    model, train = _items(ts)
    sums = {"train": checksum(train), **{n: checksum(_stack_of(model, n)) for n in ts.params}}
    meta = {**meta, "format": FORMAT, "checksums": sums, "versions": versions()}
    if self._apart:
      model, train = jax.tree.map(sharding.gathered, (model, train))
      if jax.process_index():
        return  # the first process brings it to the store
    with self._writing():
      saved = self._manager.save(
        int(ts.step),
        args=ocp.args.Composite(
          model=ocp.args.StandardSave(model),
          train=ocp.args.StandardSave(train),
          meta=ocp.args.JsonSave(meta),
        ),
        metrics={METRIC: miou} if evaluated else None,
      )
    if not saved:
      raise CheckpointError(
        f"Step {int(ts.step)} was not saved: {self.path} holds {self.steps()}. Move the later ones "
        "away, or use another --workdir."
      )

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # of the file system, by way of TensorStore and Orbax: many kinds
      free = shutil.disk_usage(self.path.parent).free / 1e6
      raise CheckpointError(
        f"A checkpoint cannot be written to {self.path} ({type(error).__name__}: "
        f"{' '.join(str(error).split())[:300]}). The disk has {free:,.0f} MB free. The checkpoints "
        "before it are whole: make room, and the same command goes on."
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
        meta = self.meta(step)
      if step in failures:
        continue
      check(meta)
      with self._noting(step, failures):
        state = self._restore(step, like, meta)
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
    try:
      yield
    except Exception as error:  # Orbax raises many kinds; each is reported, none is hidden
      failures[step] = f"step {step}: {type(error).__name__}: {str(error)[:500]}"
      logging.error("Checkpoint %s cannot be used. %s", self.path / str(step), failures[step])

  def _move_aside(self, steps: list[int]) -> None:
    if not steps:
      return
    if jax.process_index() == 0 or self._apart:
      for step in steps:
        target = self.path.parent / "unusable" / f"{step}-{os.getpid()}"
        target.parent.mkdir(exist_ok=True)
        (self.path / str(step)).rename(target)
        logging.error("Moved the unusable checkpoint of step %d to %s.", step, target)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices("unusable checkpoints moved")
    self._manager.reload()

  def reached_preemption(self, step: int) -> bool:
    """Whether all processes of a distributed run are to save and stop after this step."""
    return self._manager.reached_preemption(step)

  def _restore(self, step: int, like: TrainState, meta: dict[str, Any]) -> TrainState:
    def abstract(x: jax.Array) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

    wanted = _items(like, meta.get("format", 1))
    to_host = lambda x: np.empty(x.shape, x.dtype)
    model, train = jax.tree.map(to_host if self._apart else abstract, wanted)
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardRestore(model),
        train=ocp.args.StandardRestore(train),
      ),
    )
    model, train = restored["model"], restored["train"]
    if self._apart:
      model, train = jax.tree.map(sharding.placed_as, (model, train), wanted)
    self._verify(step, "train", train, meta["checksums"])
    for name in model["params"]:
      self._verify(step, name, _stack_of(model, name), meta["checksums"])
    return _state(model, train, like)

  def _verify(self, step: int, part: str, tree: Tree, sums: dict[str, int]) -> None:
    found, saved = checksum(tree), sums.get(part)
    if found != saved:
      raise CheckpointError(
        f"{self.path / str(step)} is damaged: {part} has the checksum {found}, saved was "
        f"{saved}. Evaluate or resume from another step, or remove this folder."
      )

  def meta(self, step: int) -> dict[str, Any]:
    """Returns the `meta` item of a step.

    Raises:
      CheckpointError: it cannot be read, or is not whole.
    """
    wanted = ocp.args.Composite(meta=ocp.args.JsonRestore())
    try:
      meta = self._manager.restore(step, args=wanted)["meta"]
      return {**meta, **{part: dict(meta[part]) for part in _OF_META}}
    except Exception as error:  # of Orbax, of JSON, of the file system
      raise CheckpointError(
        f"{self.path / str(step)} is damaged: its meta cannot be read ({str(error)[:200]}). There "
        f"are the steps {self.steps()}: use another, or move this folder away."
      ) from error

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
    try:
      found = ocp.PyTreeCheckpointer().restore(self.path / str(step) / "model", args=arg)
    except Exception as error:  # Orbax and TensorStore raise many kinds
      raise CheckpointError(
        f"{self.path / str(step)} cannot be read: {str(error)[:300]}. There are {self.steps()}."
      ) from error
    sums = self.meta(step)["checksums"]
    for name in shapes:
      self._verify(step, name, _stack_of(found, name), sums)
    return found["params"], found["batch_stats"]

  def wait(self) -> None:
    """Returns when the last save is complete on disk; CheckpointError where it cannot be."""
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then releases the manager."""
    self.wait()
    self._manager.close()
