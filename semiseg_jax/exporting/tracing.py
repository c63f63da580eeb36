"""Programs for pictures of any size, on any platform of jax, from the functions of a network."""

import jax
import jax.numpy as jnp
from jax import export
from jax.errors import InconclusiveDimensionOperation

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.exporting import functions
from semiseg_jax.models import platforms

PLATFORMS = ("cpu", "cuda", "tpu")
LEAST = 32  # pixels of a side, where sizes are free
_UNTRACED = (InconclusiveDimensionOperation, jax.errors.JAXTypeError)
_UNTRACED += (ValueError, TypeError, NotImplementedError, AttributeError)

Size = tuple[int, int]


def trace(trained: Trained, networks: list[int], size: Size | None) -> dict[str, export.Exported]:
  """Returns the programs of networks, see `container`.

  Args:
    trained: the networks.
    networks: which of them.
    size: (height, width) of pictures; None for any of `LEAST` pixels or more.

  Raises:
    ConfigError: they cannot be traced without a size.
  """
  scope = export.SymbolicScope([] if size else [f"{side} >= {LEAST}" for side in "hw"])
  sides = size or export.symbolic_shape("h, w", scope=scope)
  (b,) = export.symbolic_shape("b", scope=scope)
  channels = trained.dataset["channels"]
  images = jax.ShapeDtypeStruct((b, *sides, channels), jnp.uint8)
  valid = jax.ShapeDtypeStruct((b, 4), jnp.int32)
  weights = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype)
    for name, x in functions.weights(trained, networks).items()
  }
  segment, scores = (make(trained, networks) for make in (functions.segment, functions.scores))
  try:
    with platforms.traced_for(platforms.ANY):
      make = lambda f, *inputs: export.export(jax.jit(f), platforms=PLATFORMS)(weights, *inputs)
      return {"segment": make(segment, images), "scores": make(scores, images, valid)}
  except _UNTRACED as error:
    if size:
      raise
    raise ConfigError(
      f"{trained.names} cannot be traced for pictures of any size "
      f"({str(error).partition(chr(10))[0]}): give the one that it is to take, --size=HxW."
    ) from error
