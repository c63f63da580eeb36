"""An exported file in the place of a training run: what labels pictures with it."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import inference, protocol, whole_batches
from semiseg_jax.evaluation.bands import Classify
from semiseg_jax.evaluation.canvases import Grid
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.exporting import container, hub
from semiseg_jax.exporting.container import Frozen
from semiseg_jax.exporting.small import AnySize, Least

is_file = container.is_file


def load_trained(folder: str, step: int | str, mesh: Mesh, stack: str | None) -> Trained:
  """`inference.load_trained` of a training run, or `hub.load_trained` of a folder for a hub."""
  return (hub if hub.is_folder(folder) else inference).load_trained(folder, step, mesh, stack)


def parts(
  path: str | os.PathLike[str],
  *,
  step: int | str = "last",
  network: str | None = None,
  stack: str | None = None,
  gate: Any = None,
  **how: Any,
) -> dict[str, Any]:
  """Returns the arguments of a `Predictor` that labels with an exported file.

  Args:
    path: of a .semiseg file.
    step: of the checkpoint; the file has one.
    network: an index or 'mean'; the file has one.
    stack: which networks; the file has one.
    gate: none can be given.
    **how: mode, whole, window, stride and batch, see `protocol.from_config`.

  Raises:
    WeightsError: the file cannot be used.
    ConfigError: what it does not hold, such as other scales, or an impossible protocol.
  """
  frozen = container.read(path)
  about = frozen.about
  _refuse_others(path, about["trained"], {"step": step, "network": network, "stack": stack})
  if gate is not None:
    raise ConfigError(
      f"--gate needs the folder of the training run or of a hub, and {path} is an exported file."
    )
  chosen = _seen_once(path, _protocol(path, frozen, how), how)
  classes, grid = len(about["dataset"]["classes"]), Grid(*_grid(about))
  least = Least(about["input"].get("least") or 1, chosen, grid)
  scores, probabilities = _forwards(frozen)

  def make(forward: FileForward, **options: Any) -> AnySize:
    return AnySize(chosen.segmenter(forward, classes, grid=grid, **options), least)

  return {
    "segmenter": make(scores),
    "sure": lambda: make(probabilities, probabilities=True),
    "classes": about["dataset"]["classes"],
    "colors": about["dataset"]["colors"],
    "channels": about["dataset"]["channels"],
    "about": about["dataset"],
    "refuse": least.refuse,
  }


def _grid(about: dict[str, Any]) -> tuple[tuple[int, int], int]:
  return tuple(about["grid"]["crop"]), about["grid"]["stride"]


def _refuse_others(path: Any, has: dict[str, Any], asked: dict[str, Any]) -> None:
  for what, value in asked.items():
    if value not in (None, "last") and str(value) != str(has[what]):
      raise ConfigError(
        f"{what} {value!r}: {path} holds {what} {has[what]!r} and no other; export that one, or "
        "give the folder of the run."
      )


def _protocol(path: Any, frozen: Frozen, how: dict[str, Any]) -> Protocol:
  """As a run has it; a file for one size of pictures slides over them."""
  config, size = ConfigDict(frozen.about["eval"]), frozen.size
  window = how.get("window")
  if size is None:
    chosen, least = protocol.for_new_pictures(config, **how), frozen.about["input"].get("least")
    if least and chosen.window and min(chosen.window) < least:
      height, width = chosen.window
      raise ConfigError(
        f"windows of {height}x{width}: {path} takes {least}x{least} or more; give a larger "
        "--window, or the folder of the run."
      )
    return chosen
  if how.get("mode") == "whole" or how.get("whole") or (window and tuple(window) != size):
    height, width = size
    raise ConfigError(
      f"{path} was exported with --size={height}x{width}: it slides over pictures in windows of "
      f"this size, --mode=slide --window={height}x{width}; for others export without --size."
    )
  return protocol.to_label(config, **{**how, "mode": "slide", "window": size})


def _seen_once(path: Any, chosen: Protocol, how: dict[str, Any]) -> Protocol:
  """Without scales, mirroring and resizing, which are in no file: what asks for them is refused."""
  resized = chosen.mode == "resize_to_multiple"
  if chosen.scales == (1.0,) and not chosen.flip and not resized:
    return chosen
  said = f"{path} holds a network that sees each picture once, at its own size"
  if how.get("protocol") or how.get("scales") or how.get("flip") or (resized and how.get("mode")):
    raise ConfigError(
      f"{said}: leave out scales, flip, resizing and the protocols that have them, or give the "
      "folder of the run."
    )
  logging.warning("%s; its run is evaluated at several scales, mirrored or resized.", said)
  usual = {"mode": "whole", "whole": "padded", "multiple": 0} if resized else {}
  return dataclasses.replace(chosen, scales=(1.0,), flip=False, **usual)


@dataclasses.dataclass(frozen=True)
class FileForward:
  """The network of a file, as `windows.Segmenter` takes it.

  Attributes:
    weights: on a device.
    scores: (weights, images, valid) -> scores, compiled once per shape.
    whole: what follows for whole pictures, too; see `classified`.
  """

  weights: dict[str, jax.Array]
  scores: Callable[..., jax.Array]
  whole: Callable[..., tuple[Any, jax.Array]]

  def __call__(self, images: np.ndarray, valid: np.ndarray) -> jax.Array:
    """Scores float32 [B,h,w,K] of images uint8 [B,h,w,C] with valid int32 [B,4]."""
    return self.scores(self.weights, np.asarray(images), np.asarray(valid))

  def classified(
    self,
    images: np.ndarray,
    valid: np.ndarray,
    kept: np.ndarray | None,
    classify: Classify,
    rule: str,
  ) -> tuple[Any, jax.Array]:
    """As `whole_batches.classified` of these scores, in one program."""
    return self.whole(self.weights, np.asarray(images), np.asarray(valid), kept, classify, rule)


def _forwards(frozen: Frozen) -> tuple[FileForward, FileForward]:
  """What gives scores, and what gives probabilities."""
  weights = jax.device_put(frozen.weights, jax.local_devices()[0])
  squash: Callable = jax.nn.softmax if frozen.about["scores"] == "logits" else lambda p: p
  call = frozen.programs["scores"].call

  def forward(scores: Callable[..., jax.Array]) -> FileForward:
    def classified(weights: Any, images: jax.Array, valid: jax.Array, *how: Any) -> Any:
      return whole_batches.classified(scores(weights, images, valid), *how)

    return FileForward(weights, jax.jit(scores), jax.jit(classified, static_argnums=(4, 5)))

  return forward(call), forward(lambda *inputs: squash(call(*inputs)))
