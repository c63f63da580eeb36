"""A run in Weights & Biases: `pip install wandb`.

What to choose is said to the package by its own variables: WANDB_PROJECT (else 'semiseg_jax'),
WANDB_ENTITY, WANDB_MODE=offline, WANDB_DIR (else the folder of the run).

W&B's own step never goes back.  So rows are drawn over a metric `step`, the step of training, and
one that comes late, after a kill, is put behind the others and still drawn where it belongs.  Rows
of the last seconds before a kill may be there twice, with the same numbers.
"""

import os
import secrets
from collections.abc import Mapping

import numpy as np

from semiseg_jax.workdir.trackers import Place

PACKAGES = "wandb"
MEND = (
  "Check the network, log in (wandb login, or WANDB_API_KEY), or set WANDB_MODE=offline: "
  "`wandb sync` sends the record later."
)
_OFFLINE = ("offline", "disabled", "dryrun")


def errors() -> tuple[type[Exception], ...]:
  """Returns what the package raises where it cannot be used."""
  import wandb

  return (wandb.errors.Error, OSError, ValueError)


def open_record(place: Place) -> "WandbRecord":
  """Opens the run, a new one or that of an earlier start; raises `errors`, ImportError."""
  os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
  import wandb

  offline = wandb.setup().settings.mode in _OFFLINE
  if not offline and not wandb.login(prompt=False, verify=False):
    raise wandb.errors.UsageError("not logged in")
  saved = dict(place.saved) or {"id": secrets.token_hex(8)}
  saved.setdefault("project", os.environ.get("WANDB_PROJECT") or "semiseg_jax")
  run = wandb.init(
    id=saved["id"],
    project=saved["project"],
    name=place.name,
    resume="allow",
    dir=os.environ.get("WANDB_DIR") or str(place.workdir),
    settings=wandb.Settings(silent=True, console="off", finish_timeout=60),
  )
  run.config.update(dict(place.config), allow_val_change=True)
  run.define_metric("step")
  run.define_metric("*", step_metric="step", step_sync=True)
  return WandbRecord(run, saved, offline)


class WandbRecord:
  """See `trackers.Record`."""

  delay = 10.0  # its own process writes the files, a moment later

  def __init__(self, run: object, saved: dict, offline: bool):
    self._run, self.saved = run, saved
    folder = os.path.dirname(run.dir)
    self.where = f"run {saved['id']}, offline: wandb sync {folder}" if offline else run.url

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes numbers."""
    self._log(step, scalars)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures."""
    import wandb

    self._log(step, {name: wandb.Image(picture) for name, picture in images.items()})

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Writes texts."""
    self._log(step, texts)

  def _log(self, step: int, values: Mapping[str, object]) -> None:
    self._run.log({**values, "step": step}, step=max(step, self._run.step))

  def close(self, complete: bool) -> None:
    """Ends this start; one that is not complete counts as failed until the next."""
    self._run.finish(exit_code=0 if complete else 1)
