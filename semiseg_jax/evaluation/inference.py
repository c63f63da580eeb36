"""Trained networks for evaluation and prediction: read from a workdir, run on uint8 windows."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax import sharding, stacks
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.methods.contract import Method
from semiseg_jax.ops.preprocess import normalize
from semiseg_jax.ops.resize import resize_bilinear
from semiseg_jax.stacks import Stack
from semiseg_jax.training import experiment
from semiseg_jax.workdir.checkpoints import Checkpoints

Tree = Any


@dataclasses.dataclass(frozen=True)
class Trained:
  """The evaluated networks of a run, as read back.

  config: of the run.  dataset: name, classes, colors, channels, fingerprint, splits.  step: of the
  checkpoint.  stack: how to run them.  params, batch_stats: leaves [n, ...].
  """

  config: ConfigDict
  dataset: dict[str, Any]
  step: int
  stack: Stack
  params: Tree
  batch_stats: Tree

  @property
  def n(self) -> int:
    """The number of networks."""
    return self.stack.n


def load_trained(
  workdir: str | pathlib.Path,
  step: int | str = "last",
  mesh: Mesh | None = None,
  stack: str | None = None,
) -> Trained:
  """Reads the evaluated networks of a workdir.

  Args:
    workdir: of a training run.
    step: a step number, 'last', or 'best' (highest mIoU on the run's own val list).
    mesh: where to put them; None = all devices.
    stack: which networks, e.g. 'teacher'; None = as the config's `eval.stack` says.

  Raises:
    CheckpointError: no checkpoint, not that step, or a damaged one.
    ConfigError: no such stack.
  """
  checkpoints = Checkpoints(workdir, read_only=True)
  try:
    number = _choose_step(checkpoints, step)
    meta = checkpoints.meta(number)
    config = ConfigDict(meta["config"])
    if stack is not None:
      config.eval.stack = stack
    method = _method(config, mesh or sharding.make_mesh(), meta["dataset"], checkpoints.path)
    networks = method.stacks[method.evaluated]
    params, stats = checkpoints.restore_model(number, stacks.shapes(networks), networks.name)
  finally:
    checkpoints.close()
  return Trained(config, meta["dataset"], number, networks, params, stats)


def _method(config: ConfigDict, mesh: Mesh, dataset: dict[str, Any], where: Any) -> Method:
  try:
    return experiment.make_method(
      config, mesh, classes=len(dataset["classes"]), channels=dataset["channels"]
    )
  except AttributeError as error:  # what a ConfigDict says of a key that it has not
    raise CheckpointError(
      f"{where} was written by another version of this program: in its config "
      f"{' '.join(str(error).split())}. Use that version."
    ) from error


def _choose_step(checkpoints: Checkpoints, step: int | str) -> int:
  steps = checkpoints.steps()
  if not steps:
    raise CheckpointError(f"{checkpoints.path} holds no finished checkpoint yet.")
  if step == "last":
    return steps[-1]
  if step == "best":
    best = checkpoints.best_step()
    if best is None:
      raise CheckpointError(
        f"No checkpoint in {checkpoints.path} was evaluated: use step 'last' or one of {steps}."
      )
    return best
  if str(step) not in map(str, steps):
    raise CheckpointError(f"{checkpoints.path} has no step {step!r}; there are {steps}.")
  return int(step)


def make_scores(
  config: ConfigDict, stack: Stack, network: str
) -> Callable[[Tree, Tree, np.ndarray, np.ndarray], jax.Array]:
  """Returns scores(params, batch_stats, images, valid) -> float32 [B,h,w,K] on one local device.

  The rows are dealt out over the mesh; every process passes the same ones and gets all scores.

  Running batch statistics; logits at window size by the network's own resize rule.  Where the
  network takes multiples of a patch only, pictures are resized to the nearest ones and the logits
  back, with aligned corners (UniMatch V2).  For one network the scores are its logits, for 'mean'
  the mean of the networks' softmax probabilities.

  Args:
    config: of the run (normalisation).
    stack: the networks.
    network: an index 0 .. n-1, or 'mean'.

  Raises:
    ConfigError: no such network.
  """
  if network != "mean" and not (network.isdigit() and int(network) < stack.n):
    raise ConfigError(f"network={network!r}: 0 to {stack.n - 1}, or 'mean'.")
  one = dataclasses.replace(stack, n=1)

  def scores(params: Tree, stats: Tree, images: jax.Array, valid: jax.Array) -> jax.Array:
    x = normalize(images, valid, tuple(config.data.mean), tuple(config.data.std))
    used = stack if network == "mean" else one
    if network != "mean":
      params, stats = stacks.take((params, stats), int(network))
    size, fitted = images.shape[1:3], stack.network.fitted(images.shape[1:3])
    x = resize_bilinear(x, fitted, align_corners=True)
    outputs, _ = stacks.apply(used, params, stats, {"images": x}, bn="eval", grad=False)
    align_corners = stack.network.align_corners
    logits = resize_bilinear(outputs["images"]["logits"], fitted, align_corners=align_corners)
    logits = resize_bilinear(logits, size, align_corners=True)
    return logits[0] if network != "mean" else jax.nn.softmax(logits).mean(0)

  rows = sharding.batch_sharding(stack.mesh)
  jitted = jax.jit(scores, out_shardings=sharding.replicated(stack.mesh))

  def placed(x: np.ndarray) -> jax.Array:
    # Every process holds all windows and places the rows of its own devices.
    return jax.make_array_from_callback(x.shape, rows, lambda index: x[index])

  def call(params: Tree, stats: Tree, images: np.ndarray, valid: np.ndarray) -> jax.Array:
    return jitted(params, stats, placed(images), placed(valid)).addressable_data(0)

  return call


def make_forward(trained: Trained, network: str) -> Callable[[Any, Any], jax.Array]:
  """Returns forward(images uint8 [B,h,w,C], valid int32 [B,4]) -> scores [B,h,w,K]."""
  scores = make_scores(trained.config, trained.stack, network)
  return lambda images, valid: scores(trained.params, trained.batch_stats, images, valid)
