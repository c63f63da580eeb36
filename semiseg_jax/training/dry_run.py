"""`--dry_run`: builds and compiles a whole run, says what it would cost, draws its first batch."""

import pathlib
import time
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw

from semiseg_jax.evaluation import pictures
from semiseg_jax.methods.method import Method
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment, optimizers, summary
from semiseg_jax.training.run import Run, device_batches
from semiseg_jax.training.train_step import jitted_step
from semiseg_jax.workdir import disk as place
from semiseg_jax.workdir import store

PICTURE = "first_batch.png"
_ROWS, _PANEL, _GAP, _TITLE = 4, 192, 6, 18

Tree = Any


def dry_run(run: Run, workdir: str) -> None:
  """Prints shapes, memory and schedule of the run, writes WORKDIR/first_batch.png, and stops."""
  config = run.config
  summary.print_start(config, run.pool, run.split, run.val, run.method, run.mesh, run.normalization)
  state = experiment.initial_state(config, run.method, run.optimizer)
  place.check(workdir, checkpoint=place.nbytes(state), keep=place.kept(config.checkpoint))
  batches = device_batches(run, 0)
  try:
    batch = next(batches)
  finally:
    batches.close()
  step, _ = jitted_step(run.method, run.optimizer, config, state)
  started = time.monotonic()
  compiled = step.lower(state, batch, run.method.phase(0)).compile()
  seconds = time.monotonic() - started
  lines = [*_shapes(batch), *_memory(state, compiled), *_schedule(run)]
  lines.append(f"  compiled   in {seconds:.1f} s (from the cache where it is there)")
  path = pathlib.Path(workdir) / PICTURE
  views = _views(config, run.method, state, batch)
  if jax.process_index() == 0:
    pictures.write_png(path, sheet(views, run.dataset.info.colors))
    picture = f"\n  picture    {store.named(path)}: the first batch"
    print("\n".join(lines) + picture + "\nNothing was trained.")


def _shapes(batch: Tree) -> list[str]:
  return [
    f"  {name}: "
    + ", ".join(f"{field} {x.dtype}{list(x.shape)}" for field, x in sorted(stream.items()))
    for name, stream in batch.items()
  ]


def _memory(state: TrainState, compiled: Any) -> list[str]:
  params, everything = place.nbytes(state.params), place.nbytes(state)
  lines = [
    f"  state      {everything / 1e6:.1f} MB, of them {params / 1e6:.1f} MB parameters: the size "
    "of a checkpoint"
  ]
  needs = compiled.memory_analysis()
  if needs is not None:
    lines.append(
      f"  step       per device: {needs.argument_size_in_bytes / 1e6:.1f} MB of state and batch, "
      f"{needs.temp_size_in_bytes / 1e6:.1f} MB while it runs, "
      f"{needs.generated_code_size_in_bytes / 1e6:.1f} MB of code"
    )
  return lines


def _schedule(run: Run) -> list[str]:
  steps, o = run.config.train.steps, optimizers.Options(**run.config.optimizer)
  rates = {t: optimizers.rate(o, steps, t) for t in (0, steps // 2, steps - 1)}
  lines = ["  rate       " + ", ".join(f"{rate:.3g} at step {t}" for t, rate in rates.items())]
  for stream in run.method.streams:
    epoch = len(run.split.ids(stream.source)) / stream.batch
    lines.append(
      f"  {stream.name}: an epoch is {epoch:.1f} steps, the run {steps / epoch:.1f} epochs"
    )
  starts = [t for t in range(1, steps) if run.method.phase(t) != run.method.phase(t - 1)]
  names = lambda t: ", ".join(sorted(run.method.phase(t))) or "nothing more"
  lines += [f"  phase      {names(t)} from step {t}" for t in starts]
  return lines


def _views(config: Any, method: Method, state: TrainState, batch: Tree) -> dict[str, np.ndarray]:
  """Title -> pictures uint8 [B,H,W,3], labels or masks [B,H,W] of the first batch."""
  if config.train.accumulate > 1:
    batch = jax.tree.map(lambda x: x[0], batch)
  views = {}
  for name, stream in batch.items():
    views |= {f"{name} {field}": x for field, x in stream.items() if field.startswith("image")}
    views |= {f"{name} {field}": x for field, x in stream.items() if field.startswith("label")}
  shown = shown_of(config, method, state, batch)
  mean, std = (np.asarray(x, np.float32) for x in (config.data.mean, config.data.std))
  for title, x in shown.items():
    floats = np.issubdtype(x.dtype, np.floating)
    pixels = lambda x: np.clip(np.rint((np.asarray(x) * std + mean) * 255), 0, 255).astype(np.uint8)
    views[title] = pixels(x) if floats else x
  return {title: _local(x) for title, x in views.items()}


def shown_of(config: Any, method: Method, state: TrainState, batch: Tree) -> Tree:
  """Returns what the loss shows of a batch, in the last phase: what would be trained on."""
  rows = lambda stream: {**stream, "row": np.arange(len(stream["image"]))}
  phase = method.phase(config.train.steps - 1)

  @jax.jit
  def run(state: TrainState, batch: Tree) -> Tree:
    key = jax.random.fold_in(jax.random.key(config.seed), state.step)
    fixed = [{name: pair[i] for name, pair in state.fixed.items()} for i in (0, 1)]
    params, stats = {**state.params, **fixed[0]}, {**state.stats, **fixed[1]}
    _, out = method.loss(params, stats, state.memory, batch, key, state.step, phase)
    return out.shown

  return run(state, {name: rows(stream) for name, stream in batch.items()})


def _local(x: Any) -> np.ndarray:
  """This process's first rows of an array whose rows are dealt out."""
  if not isinstance(x, jax.Array) or x.is_fully_addressable:
    return np.asarray(x)[:_ROWS]
  return np.asarray(x.addressable_shards[0].data)[:_ROWS]


def sheet(views: dict[str, np.ndarray], colors: pictures.Colors) -> np.ndarray:
  """Draws one column per view and one row per picture: uint8 [H,W,3]."""
  columns = {title: [_panel(x, colors) for x in view] for title, view in views.items()}
  rows = max(len(column) for column in columns.values())
  height = max(panel.height for column in columns.values() for panel in column)
  size = (len(columns) * (_PANEL + _GAP) + _GAP, rows * (height + _GAP) + _TITLE + _GAP)
  canvas = Image.new("RGB", size, (255, 255, 255))
  draw = ImageDraw.Draw(canvas)
  for i, (title, column) in enumerate(columns.items()):
    x = _GAP + i * (_PANEL + _GAP)
    draw.text((x, 3), title, fill=(30, 30, 30))
    for j, panel in enumerate(column):
      canvas.paste(panel, (x, _TITLE + j * (height + _GAP)))
  return np.asarray(canvas)


def _panel(x: np.ndarray, colors: pictures.Colors) -> Image.Image:
  if x.ndim == 3:
    pixels = pictures.visible(x)
  elif x.dtype == bool:
    pixels = np.repeat(np.uint8(255) * x[..., None].astype(np.uint8), 3, axis=2)
  else:
    pixels = pictures.colorize(x.astype(np.uint8), colors)
  height = max(1, round(_PANEL * pixels.shape[0] / pixels.shape[1]))
  return Image.fromarray(np.ascontiguousarray(pixels)).resize((_PANEL, height), Image.NEAREST)
