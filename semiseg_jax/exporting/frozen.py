"""A trained network as a .semiseg file."""

import datetime
from typing import Any

from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.exporting import container, functions, promise, tracing
from semiseg_jax.exporting.container import Frozen, Size


def freeze(trained: Trained, network: str, size: Size | None, about: dict[str, Any]) -> Frozen:
  """Returns what is written to a .semiseg file.

  Args:
    trained: the networks.
    network: '0', '1', ... or 'mean'.
    size: (height, width) of pictures; None for any.
    about: see `about.describe`.

  Raises:
    ConfigError: no such network, or one that cannot be traced without a size.
  """
  networks = functions.chosen(trained, network)
  programs = tracing.trace(trained, networks, size)
  channels, k = trained.dataset["channels"], len(trained.dataset["classes"])
  sides = "{},{}".format(*(size or "HW"))
  return Frozen(
    about={
      "format": container.FORMAT,
      "format_version": container.VERSION,
      **about,
      "promise": promise.of(datetime.date.fromisoformat(about["made"])),
      "platforms": list(tracing.PLATFORMS),
      "input": {
        "images": f"uint8 [B,{sides},{channels}]",
        "size": size and list(size),
        "least": None if size else tracing.LEAST,
      },
      "output": {
        "labels": f"uint8 [B,{sides}]",
        "confidence": f"float32 [B,{sides}], the probability of the label",
        "probabilities": f"float32 [B,{sides},{k}]",
      },
      "scores": "logits" if len(networks) == 1 else "probabilities",
    },
    weights=functions.weights(trained, networks),
    programs=programs,
  )
