"""The argument `protocol` of config files: pictures are evaluated as published numbers were."""

from ml_collections import ConfigDict

from configs import presets
from semiseg_jax.evaluation import published

ARGUMENT = presets.Text("", tuple(published.PROTOCOLS))


def choose(c: ConfigDict, name: str) -> None:
  """Sets what a published protocol says; '' changes nothing."""
  if name:
    c.eval.update(published.find(name).fields)
