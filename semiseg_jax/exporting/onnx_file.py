"""A trained network as an ONNX file: by jax2onnx, run by onnxruntime.

Pictures are of one size, any number of them: jax2onnx follows symbols through the batch axis only.
"""

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.errors import ConfigError, WeightsError
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.exporting import functions, onnx_shapes
from semiseg_jax.models import platforms

INPUT, OUTPUTS = "images", ("labels", "confidence", "probabilities")
KEY = "semiseg_jax"  # of the metadata, whose value is JSON
_LARGEST = 2**31 - 2**20  # bytes of a protocol buffer
# What jax2onnx raises of an operation that it does not have.
_UNKNOWN = (NotImplementedError, ValueError, TypeError, KeyError, AttributeError, RuntimeError)


def write(
  path: str | os.PathLike[str],
  trained: Trained,
  networks: list[int],
  size: tuple[int, int],
  about: Mapping[str, Any],
  batch: int | None = None,
) -> int:
  """Writes images uint8 [B,H,W,C] -> labels, confidence, probabilities, see `functions.segment`.

  Args:
    path: of the file.
    trained: the networks.
    networks: which of them.
    size: (H, W).
    about: what its metadata say, plain JSON values.
    batch: B; None for any.

  Returns:
    The number of nodes.

  Raises:
    ConfigError: a package is absent, or a network of 2 GiB or more.
    WeightsError: an operation that jax2onnx does not have.
  """
  jax2onnx = _imported("jax2onnx")
  weights = {k: jnp.asarray(x) for k, x in functions.weights(trained, networks).items()}
  if sum(x.nbytes for x in weights.values()) > _LARGEST:
    raise ConfigError("an ONNX file holds less than 2 GiB, and these weights are more.")
  segment = functions.segment(trained, networks)
  images = jax.ShapeDtypeStruct((batch or "B", *size, trained.dataset["channels"]), jnp.uint8)
  try:
    with platforms.traced_for(platforms.ONNX):
      model = jax2onnx.to_onnx(
        lambda images: segment(weights, images),
        [images],
        model_name=trained.names,
        input_names=[INPUT],
        output_names=list(OUTPUTS),
      )
  except _UNKNOWN as error:
    raise WeightsError(
      f"jax2onnx {getattr(jax2onnx, '__version__', '')} cannot take {trained.names} "
      f"({type(error).__name__}: {error}): write a .semiseg file instead."
    ) from error
  onnx_shapes.name_axes(model.graph)
  for value in (*model.graph.input, *model.graph.output) if batch is None else ():
    value.type.tensor_type.shape.dim[0].dim_param = "B"
  del model.metadata_props[:]
  model.metadata_props.add(key=KEY, value=json.dumps(about))
  pathlib.Path(path).write_bytes(model.SerializeToString())
  return len(model.graph.node)


def session(
  path: str | os.PathLike[str],
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """Returns images uint8 [B,H,W,C] -> (labels, probabilities), by onnxruntime on a CPU."""
  runtime = _imported("onnxruntime")
  options = runtime.SessionOptions()
  options.log_severity_level = 3
  opened = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])

  def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return tuple(opened.run(["labels", "probabilities"], {INPUT: images}))

  return run


def _imported(name: str) -> ModuleType:
  try:
    return __import__(name)
  except ImportError as error:
    raise ConfigError(
      f".onnx files need {name} ({error}): pip install jax2onnx onnxruntime"
    ) from error
