"""Semi-supervised semantic segmentation in JAX.

config = semiseg_jax.load_config("configs/cps_toy.py:method=unimatch")
result = semiseg_jax.train(config, "runs/unimatch")
labels = semiseg_jax.load_predictor(result.workdir)("photo.jpg")
"""

import importlib
from typing import Any

__version__ = "0.2.0"

# Name -> where it is; imported when it is asked for, since jax and the networks take seconds.
_CALLED = {
  "train": ("semiseg_jax.train", None),  # the module, which can be called
  "load_config": ("semiseg_jax.config.command_line", "load"),
  "load_predictor": ("semiseg_jax.predict", "load_predictor"),
}


def __getattr__(name: str) -> Any:
  if name not in _CALLED:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  module, attribute = _CALLED[name]
  found = importlib.import_module(module)
  return getattr(found, attribute) if attribute else found
