"""A run in MLflow: `pip install mlflow`, or of the small package what a database needs as well.

What to choose is said to the package by its own variables: MLFLOW_TRACKING_URI, a server or a
database for many runs (else WORKDIR/mlflow.db, for this one), and MLFLOW_EXPERIMENT_NAME (else
'semiseg_jax').
"""

import logging
import os
import re
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from semiseg_jax.workdir.trackers import Place

PACKAGES = "mlflow-skinny sqlalchemy alembic"
MEND = (
  "Check MLFLOW_TRACKING_URI (a server, or sqlite:///FILE.db), or delete trackers.json in the "
  "folder of the run to begin a new record."
)
_BATCH = 100  # of params in a call, at most
_LONGEST = 6000  # letters of a param
_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # in the name of a metric
_USUAL = {  # so that a server that is gone holds up a run for a minute, not for many
  "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
  "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
  "MLFLOW_DISABLE_TELEMETRY": "true",
}


def errors() -> tuple[type[Exception], ...]:
  """Returns what the package raises where it cannot be used."""
  from mlflow.exceptions import MlflowException

  return (MlflowException, OSError, ValueError)


def open_record(place: Place) -> "MlflowRecord":
  """Opens the run, a new one or that of an earlier start; raises `errors`, ImportError."""
  for name, value in _USUAL.items():
    os.environ.setdefault(name, value)
  from mlflow import MlflowClient

  for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.WARNING)
  given, saved = os.environ.get("MLFLOW_TRACKING_URI", ""), dict(place.saved)
  if saved and given != saved["uri"]:
    raise ValueError(
      f"the record of this run is in {saved['uri'] or 'mlflow.db of its folder'}, and "
      f"MLFLOW_TRACKING_URI={given!r} is another place"
    )
  if not given and place.in_store:
    raise ValueError("a run in an object store needs MLFLOW_TRACKING_URI, of a server or database")
  if not given:
    import alembic  # noqa: F401
    import sqlalchemy  # noqa: F401
  uri = given or f"sqlite:///{place.workdir}/mlflow.db"
  client = MlflowClient(tracking_uri=uri)
  again = bool(saved)
  if again:
    client.update_run(saved["id"], status="RUNNING")
  else:
    artifacts = None if given else f"file://{place.workdir}/mlartifacts"
    saved = {"id": _new(client, place, artifacts), "uri": given}
  client.log_dict(saved["id"], dict(place.config), "config.json")
  return MlflowRecord(client, saved, uri, again)


def _new(client: Any, place: Place, artifacts: str | None) -> str:
  from mlflow.entities import Param

  name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "semiseg_jax"
  experiment = client.get_experiment_by_name(name)
  number = experiment.experiment_id if experiment else client.create_experiment(name, artifacts)
  run = client.create_run(number, run_name=place.name).info.run_id
  params = [Param(key, str(value)[:_LONGEST]) for key, value in place.config.items()]
  for first in range(0, len(params), _BATCH):
    client.log_batch(run, params=params[first : first + _BATCH])
  return run


class MlflowRecord:
  """See `trackers.Record`.

  Args of the constructor:
    client: of the package.
    saved: what finds the run again.
    uri: of the store.
    again: whether the run is of an earlier start, which may have written a part of the next step.
  """

  delay = 0.0

  def __init__(self, client: Any, saved: dict, uri: str, again: bool):
    self._client, self.saved, self._again = client, saved, again
    self._first: int | None = None  # the step that this start writes first
    self._names: dict[str, str] = {}
    self.where = f"run {saved['id']} in {uri}"
    if not saved["uri"]:
      self.where += f" (mlflow ui --backend-store-uri {uri})"

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes numbers."""
    from mlflow.entities import Metric

    self._first = step if self._first is None else self._first
    now = int(time.time() * 1000)
    metrics = [Metric(self._name(name), value, now, step) for name, value in scalars.items()]
    if self._again and step == self._first:
      metrics = [one for one in metrics if step not in self._steps(one.key)]
    self._client.log_batch(self.saved["id"], metrics=metrics)

  def _steps(self, name: str) -> set[int]:
    return {one.step for one in self._client.get_metric_history(self.saved["id"], name)}

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes pictures as artifacts, PNG."""
    for name, picture in images.items():
      picture = picture[..., 0] if picture.shape[-1] == 1 else picture
      file = f"{self._name(name)}/step_{step:08d}.png"
      self._client.log_image(self.saved["id"], picture, artifact_file=file)

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Writes texts as artifacts."""
    for name, text in texts.items():
      self._client.log_text(self.saved["id"], text, f"{self._name(name)}/step_{step:08d}.txt")

  def _name(self, name: str) -> str:
    """A name that MLflow takes, each of another one."""
    if name not in self._names:
      right = "/".join(part for part in _FORBIDDEN.sub("_", name).split("/") if part.strip("."))
      while right in self._names.values():
        right += "_"
      self._names[name] = right
    return self._names[name]

  def close(self, complete: bool) -> None:
    """Ends this start."""
    self._client.set_terminated(self.saved["id"], "FINISHED" if complete else "KILLED")
