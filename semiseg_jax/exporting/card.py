"""The card of a model: what a hub shows of it."""

from typing import Any

from semiseg_jax.evaluation.inference import Trained


def results(workdir: str, trained: Trained) -> list[dict[str, Any]]:
  """Scores."""
  return []


def text(about: dict[str, Any], scores: list, out: str) -> str:
  """Text."""
  return ""
