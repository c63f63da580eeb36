"""A classifier of pictures as the gate of a segmentation: which classes a picture may have.

Source: MLMT (Mittal, Tatarchenko, Brox, TPAMI 2021).  There the probabilities lie in a text file
and are joined with the pictures by line; here a picture is classified when it is segmented.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.evaluation import described, image_labels, inference
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.windows import Forward, Segmenter
from semiseg_jax.ops.class_gate import RULES
from semiseg_jax.workdir import store


@dataclasses.dataclass(frozen=True)
class Gating:
  """What a user asks for.

  Attributes:
    workdir: of the training run of a classifier, such as MLMT's.
    threshold: classes of this probability or more are kept.
    rule: what becomes of the others, see `ops.class_gate.gated`.
    always: names of classes that are kept whatever the classifier says, such as the background.
    step: of the classifier's checkpoint: a number, 'last' or 'best'.
  """

  workdir: str
  threshold: float = image_labels.THRESHOLD
  rule: str = RULES[0]
  always: tuple[str, ...] = ()
  step: int | str = "last"

  def __post_init__(self) -> None:
    if not 0 <= self.threshold <= 1:
      raise ConfigError(f"gate threshold {self.threshold}: a probability, from 0 to 1.")
    if self.rule not in RULES:
      raise ConfigError(f"gate rule {self.rule!r}: one of {', '.join(RULES)}.")


class Gate:
  """Says which classes a picture may have; see `windows.ClassGate`.

  Attributes:
    rule: see Gating.
    about: for a result file.
  """

  def __init__(
    self,
    probabilities: Callable[[np.ndarray], jax.Array],
    gating: Gating,
    always: np.ndarray,
    about: dict[str, Any],
  ):
    self.rule, self.about = gating.rule, about
    self._probabilities, self._threshold, self._always = probabilities, gating.threshold, always

  def __call__(self, image: np.ndarray) -> jax.Array:
    """Bool [K] of a picture uint8 [H,W,C]."""
    return _kept(self._probabilities(image), self._threshold, self._always)


@jax.jit
def _kept(p: jax.Array, threshold: float, always: np.ndarray) -> jax.Array:
  return (p >= threshold) | jnp.asarray(always)


@dataclasses.dataclass(frozen=True)
class Gated(Protocol):
  """A protocol whose segmenter has a gate."""

  gate: Gate | None = None

  def segmenter(self, forward: Forward, num_classes: int, **options: Any) -> Segmenter:
    """A segmenter by this protocol.

    Raises:
      ConfigError: a rule for logits where the scores are probabilities.
    """
    adds_logits = self.adds == "logits" and not options.get("confidence")
    if self.gate.rule == "logit_zero" and not adds_logits:
      raise ConfigError(
        "gate rule 'logit_zero' multiplies logits, and here probabilities of several networks or "
        "views, or of labels with their confidence, are compared: use 'softmax_zero', or one "
        "network such as --network=0."
      )
    return super().segmenter(forward, num_classes, gate=self.gate, **options)

  def as_dict(self) -> dict[str, Any]:
    """For a result file."""
    return {**_plain(self).as_dict(), "gate": self.gate.about}

  @property
  def name(self) -> str:
    """Short, fit for a file name."""
    about = self.gate.about
    run = re.sub(r"[^A-Za-z0-9_.-]+", "_", about["run"])
    always = "".join(f"_{re.sub(r'[^A-Za-z0-9]+', '_', name)}" for name in about["always"])
    gate = f"{run}_step_{about['step']}_{about['rule']}_{about['threshold']:g}{always}"
    return f"{_plain(self).name}_gate_{gate}"


def _plain(how: Protocol) -> Protocol:
  return Protocol(**{f.name: getattr(how, f.name) for f in dataclasses.fields(Protocol)})


def applied(gate: Gating | str | None, trained: Trained, how: Protocol) -> Protocol:
  """Returns the protocol with a gate, or as it is without one.

  Args:
    gate: the gate, the workdir of a classifier with the usual options, or None.
    trained: the networks that segment; the classifier runs where they do.
    how: they segment.

  Raises:
    CheckpointError: the classifier cannot be restored.
    ConfigError: it is no classifier, or one of other classes or channels, or a class that is always
      kept is none of them.
  """
  if gate is None:
    return how
  gating = Gating(gate) if isinstance(gate, str) else gate
  classifier = _classifier(gating, trained)
  _check(gating, classifier, trained)
  always = np.isin(trained.dataset["classes"], gating.always)
  about = {
    "run": pathlib.Path(gating.workdir).name,
    "step": classifier.step,
    "checksums": classifier.checksums,
    "threshold": gating.threshold,
    "rule": gating.rule,
    "always": list(gating.always),
  }
  opened = Gate(image_labels.of_trained(classifier, "mean"), gating, always, about)
  return Gated(**vars(_plain(how)), gate=opened)


def _classifier(gating: Gating, trained: Trained) -> Trained:
  with store.opened(gating.workdir, writes=False) as folder:
    if not (described.last_stage(folder) / "checkpoints").is_dir():
      raise CheckpointError(
        f"--gate={gating.workdir} holds no checkpoints: give the folder that the training of a "
        "classifier wrote."
      )
    try:
      return inference.load_trained(folder, gating.step, trained.mesh)
    except CheckpointError as error:
      raise CheckpointError(f"--gate={gating.workdir} cannot be used: {error}") from error


def _check(gating: Gating, classifier: Trained, trained: Trained) -> None:
  where = f"--gate={gating.workdir}"
  if not classifier.labels_pictures:
    raise ConfigError(
      f"{where} is a run that segments; a gate is a classifier of pictures: train one with a "
      "config of method.name='mlmt', such as configs/mlmt_voc.py."
    )
  ours, theirs = (
    (list(run.dataset["classes"]), run.dataset["channels"]) for run in (trained, classifier)
  )
  if ours != theirs:
    raise ConfigError(
      f"{where} knows the classes {theirs[0]} in pictures of {theirs[1]} channels; the run that "
      f"segments {ours[0]}, {ours[1]} channels: train both on one dataset."
    )
  unknown = [name for name in gating.always if name not in ours[0]]
  if unknown:
    raise ConfigError(
      f"always kept by the gate: {', '.join(unknown)}: no such class; there are: "
      f"{', '.join(ours[0])}."
    )
