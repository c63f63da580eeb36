"""Metrics on disk: JSON lines always, TensorBoard through clu or through our own events.

`clu.metric_writers` does not import without tensorflow. Where it does not, TensorBoard event files
are written with the protocol buffers of the `tensorboard` package, which needs no tensorflow.
"""

import html
import importlib.util
import json
import math
import time
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from etils import epath
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.text import summary_v2 as text_summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from semiseg_jax import files
from semiseg_jax.data.pictures import encode_png
from semiseg_jax.wording import counted
from semiseg_jax.workdir import trackers

JSON_LINES = "metrics.jsonl"
Scalar = int | float | np.generic | np.ndarray | jax.Array


class MetricWriter(Protocol):
  """The part of clu's MetricWriter that the training loop calls."""

  def write_scalars(self, step: int, scalars: Mapping[str, Scalar]) -> None:
    """Writes one number per name."""

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Writes uint8 pictures [H,W,C] or [N,H,W,C] with 1 or 3 channels."""

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Writes texts."""

  def write_hparams(self, hparams: Mapping[str, Any]) -> None:
    """Writes a flat mapping of settings; call once."""

  def flush(self) -> None:
    """Brings everything to disk."""

  def close(self) -> None:
    """Flushes and closes."""


def create_writer(
  workdir: str, *, resume_step: int, tracked: trackers.Tracked | None = None
) -> MetricWriter:
  """The writer of a run: `workdir`/metrics.jsonl, TensorBoard events in `workdir`, and trackers.

  Only process 0 writes. Whatever an interrupted run wrote after the step it is resumed from is
  taken back: rows with a later step are cut from the JSON lines, and a START marker makes
  TensorBoard drop the later events.

  Args:
    workdir: folder, made when missing.
    resume_step: the restored step, 0 when nothing was restored (then all earlier rows go).
    tracked: what experiment trackers are told, None = nothing.

  Raises:
    UserError: a tracker cannot be used, see `trackers.start`.
  """
  if jax.process_index() > 0:
    return _Writers()
  path = epath.Path(workdir)
  path.mkdir(parents=True, exist_ok=True)
  last_step = resume_step if resume_step > 0 else -1
  cut_json_lines(path / JSON_LINES, last_step)
  records = (
    trackers.start(tracked, workdir, resume_step, _rows(path / JSON_LINES)) if tracked else []
  )
  json_lines = _JsonLines(path / JSON_LINES)
  if importlib.util.find_spec("tensorflow") is None:
    return _Writers(json_lines, _Events(workdir, after=last_step), *records)
  # An event file of its own, which sorts before the one clu opens next.
  _Events(workdir, after=last_step).close()
  from clu import metric_writers  # imports tensorflow

  return _Writers(json_lines, metric_writers.create_default_writer(workdir), *records)


def cut_json_lines(path: epath.PathLike, last_step: int) -> int:
  """Removes, atomically, the rows of a JSON lines file with step > `last_step`.

  A line that cannot be read (the process died while writing it) is removed too, with a warning.

  Returns:
    The number of removed lines.
  """
  path = epath.Path(path)
  if not path.exists():
    return 0
  lines = path.read_bytes().splitlines()
  steps = [_step_of(line) for line in lines]
  torn = steps.count(None)
  if torn:
    logging.warning(
      "%s: dropped %s, left by an interrupted write", path, counted(torn, "unreadable line")
    )
  kept = [line for line, step in zip(lines, steps) if step is not None and step <= last_step]
  files.write_bytes(path, b"".join(line + b"\n" for line in kept))
  return len(lines) - len(kept)


def _rows(path: epath.Path) -> list[dict[str, Any]]:
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _step_of(line: bytes) -> int | None:
  try:
    step = json.loads(line)["step"]
  except (ValueError, KeyError, TypeError, RecursionError):
    return None
  return step if isinstance(step, int) else None


class _Writers:
  """Hands every call to each of its writers; none on processes other than the first."""

  def __init__(self, *writers: MetricWriter):
    self._writers = writers

  def write_scalars(self, step: int, scalars: Mapping[str, Scalar]) -> None:
    for writer in self._writers:
      writer.write_scalars(step, scalars)

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    for writer in self._writers:
      writer.write_images(step, images)

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    for writer in self._writers:
      writer.write_texts(step, texts)

  def write_hparams(self, hparams: Mapping[str, Any]) -> None:
    for writer in self._writers:
      writer.write_hparams(hparams)

  def flush(self) -> None:
    for writer in self._writers:
      writer.flush()

  def close(self) -> None:
    for writer in self._writers:
      writer.close()


class _JsonLines:
  """Appends `{"step": 20, "time": 1.7e9, "loss": 0.5, ...}` rows; numbers and texts only.

  Values that are not finite become the strings "nan", "inf", "-inf": JSON has no such numbers.
  """

  def __init__(self, path: epath.PathLike):
    self._file = epath.Path(path).open("a")

  def write_scalars(self, step: int, scalars: Mapping[str, Scalar]) -> None:
    self._row(step, {name: _json_number(value) for name, value in scalars.items()})

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """Pictures have no place in this file."""

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    self._row(step, dict(texts))

  def write_hparams(self, hparams: Mapping[str, Any]) -> None:
    """Settings are stored with the checkpoints."""

  def _row(self, step: int, values: Mapping[str, float | str]) -> None:
    self._file.write(
      json.dumps({"step": int(step), "time": round(time.time(), 3), **values}) + "\n"
    )
    # A row is whole in the file as soon as it is written: a killed run loses none.
    self._file.flush()

  def flush(self) -> None:
    self._file.flush()

  def close(self) -> None:
    self._file.close()


class _Events:
  """TensorBoard event files without tensorflow, behind clu's method names.

  The files are written by tensorboard's own writer: tensorboardX names them by the second, so that
  a run resumed within one replaces the file of the run before, and does not wait when it flushes.
  """

  def __init__(self, logdir: str, *, after: int):
    self._writer = EventFileWriter(str(logdir))
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    # Readers drop what earlier files hold at this step and later.
    self._event(after + 1, session_log=start)
    self._writer.flush()

  def write_scalars(self, step: int, scalars: Mapping[str, Scalar]) -> None:
    self._summary(
      step,
      [
        summary_pb2.Summary.Value(tag=name, simple_value=_number(value))
        for name, value in scalars.items()
      ],
    )

  def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    for name, pictures in images.items():
      pictures = np.asarray(pictures)
      single = pictures.ndim == 3
      values = []
      for i, picture in enumerate(pictures[None] if single else pictures):
        height, width, channels = picture.shape
        image = summary_pb2.Summary.Image(
          height=height,
          width=width,
          colorspace=channels,
          encoded_image_string=encode_png(picture),
        )
        values.append(summary_pb2.Summary.Value(tag=name if single else f"{name}/{i}", image=image))
      self._summary(step, values)

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
      self._event(step, summary=text_summary.text_pb(name, text))

  def write_hparams(self, hparams: Mapping[str, Any]) -> None:
    known = (bool, int, float, str)
    plain = {k: v if isinstance(v, known) else str(v) for k, v in hparams.items()}
    self._event(0, summary=hparams_summary.hparams_pb(plain))
    rows = "".join(f"| {k} | {html.escape(str(v))} |\n" for k, v in sorted(plain.items()))
    self.write_texts(0, {"hparams": "| setting | value |\n|---|---|\n" + rows})

  def _summary(self, step: int, values: list[summary_pb2.Summary.Value]) -> None:
    self._event(step, summary=summary_pb2.Summary(value=values))

  def _event(self, step: int, **content: Any) -> None:
    self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=int(step), **content))

  def flush(self) -> None:
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


def _number(value: Scalar) -> float:
  return float(np.asarray(value))


def _json_number(value: Scalar) -> float | str:
  number = _number(value)
  return number if math.isfinite(number) else str(number)
