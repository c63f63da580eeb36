"""The input pipeline: pictures per second and core, against a PyTorch DataLoader with OpenCV.

    python -m semiseg_jax.benchmark --what=input

Makes labeled pictures of the size of Cityscapes (PNG, crop 800) and VOC (JPEG, crop 512), and
reads them in turn by this program's pipeline over shards and by a DataLoader with TorchSemiSeg's
transform over files, both inside of this process.  Pictures, scales and crops are the same; theirs
leave it normalized in float32, ours in uint8, as a step normalizes on the device.  What counts is
processor time, which other work on the machine disturbs little; the median of several rounds is
printed.  Then the memory of a training host: 24 crops of 800x800 per step, read by worker processes
and kept ahead.
"""

import argparse
import functools
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from semiseg_jax.arguments import command
from semiseg_jax.benchmark import made_pictures, opencv_loader
from semiseg_jax.benchmark.arguments import whole
from semiseg_jax.benchmark.made_pictures import KINDS, Kind
from semiseg_jax.benchmark.peak import Peak
from semiseg_jax.data.augment.crops import Rules, random_crop
from semiseg_jax.data.augment.families import FAMILIES
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.pipeline import StreamSpec, make_batches

_SCALES = (0.5, 0.75, 1.0, 1.5, 1.75, 2.0)
_BATCH = 8
_TITLES = {
  "ours": "this pipeline",
  "raw": "this pipeline, --codec raw",
  "torch": "DataLoader, OpenCV",
}
_PACKAGES = ("opencv-python-headless", "numpy", "grain", "zstandard", "torch")


def main(argv: Sequence[str]) -> None:
  """Prints both tables."""
  parser = argparse.ArgumentParser(prog=f"{command('semiseg_jax.benchmark')} --what=input")
  parser.add_argument("--rounds", type=whole(1), default=5, help="measurements of each, in turn")
  parser.add_argument("--memory_steps", type=whole(0), default=8, help="0: leave memory out")
  options = parser.parse_args(argv)
  torch = importlib.util.find_spec("torch") is not None
  print(describe_machine())
  if not torch:
    print("torch is absent: no comparison (pip install torch).")
  with tempfile.TemporaryDirectory() as folder:
    for name, kind in KINDS.items():
      root = pathlib.Path(folder) / name
      made_pictures.make(kind, root)
      print(report(name, kind, measure(root, kind, options.rounds, torch)))
    if options.memory_steps:
      shards = pathlib.Path(folder) / "cityscapes" / "shards"
      peak = training_memory(shards, KINDS["cityscapes"], options.memory_steps)
      print(f"memory of a training host, 8+8+8 crops of 800x800, 2 workers: {peak / 2**30:.2f} GiB")


def describe_machine() -> str:
  """One line: processor, Python and the packages that matter."""
  versions = []
  for name in _PACKAGES:
    try:
      versions.append(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
      continue
  cores = os.cpu_count()
  return f"{_processor()}, {cores} cores, Python {platform.python_version()}, " + ", ".join(
    versions
  )


def _processor() -> str:
  file = pathlib.Path("/proc/cpuinfo")
  lines = file.read_text().splitlines() if file.exists() else []
  names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.processor()


def measure(root: pathlib.Path, kind: Kind, rounds: int, torch: bool) -> dict[str, list[float]]:
  """Returns the processor seconds per picture of each round, of 'ours', 'raw' and 'torch'."""
  sources: dict[str, Iterator] = {
    "ours": our_batches(root / "shards", kind),
    "raw": our_batches(root / "shards_raw", kind),
  }
  if torch:
    sources["torch"] = opencv_loader.batches(root, kind.crop, _BATCH)
  seconds: dict[str, list[float]] = {name: [] for name in sources}
  for source in sources.values():
    next(source)
    _settle()
  for _ in range(rounds):
    for name, source in sources.items():
      # Ours is the faster one: more batches for as good a mean.
      count = kind.steps * (1 if name == "torch" else 4)
      seconds[name].append(_processor_seconds(source, count) / (count * _BATCH))
  for name in ("ours", "raw"):
    sources[name].close()
  return seconds


def our_batches(
  shards: pathlib.Path, kind: Kind, workers: int = 0, streams: Sequence[str] = ("labeled",)
) -> Any:
  """Batches of 8 crops with labels per stream, as CPS trains on them."""
  dataset = Dataset.open(shards)
  rules = Rules(FAMILIES["cps"], (kind.crop, kind.crop), _SCALES, flip=0.5)
  augment = functools.partial(random_crop, rules=rules)
  specs = [StreamSpec(name, dataset.info.ids, _BATCH, name, augment) for name in streams]
  return make_batches(dataset, specs, seed=0, start_step=0, rows=slice, workers=workers)


def _processor_seconds(source: Iterator, count: int) -> float:
  start = time.process_time()
  for _ in range(count):
    next(source)
  _settle()
  return time.process_time() - start


def _settle(quiet_s: float = 0.1) -> None:
  """Waits until threads that read ahead have filled their places, so that they count in full."""
  while True:
    before = time.process_time()
    time.sleep(quiet_s)
    if time.process_time() - before < 0.02 * quiet_s:
      return


def report(name: str, kind: Kind, seconds: dict[str, list[float]]) -> str:
  """The lines on one kind of pictures: a title, and one for each that was measured."""
  height, width = kind.size
  lines = [f"{name}: {width}x{height} {kind.suffix[1:].upper()}, crop {kind.crop}, image + label"]
  middle = {who: statistics.median(found) for who, found in seconds.items()}
  for who, title in _TITLES.items():
    if who in seconds:
      spread = " ".join(f"{1000 * s:.1f}" for s in seconds[who])
      lines.append(
        f"  {title:<27}{1 / middle[who]:8.1f} images/s per core, {1000 * middle[who]:7.2f} ms "
        f"({spread})"
      )
      if "torch" in seconds and who != "torch":
        lines[-1] += f": ratio {middle['torch'] / middle[who]:.1f}"
  return "\n".join(lines)


def training_memory(shards: pathlib.Path, kind: Kind, steps: int) -> int:
  """Returns the peak in bytes of reading and placing `steps` batches of three streams."""
  from semiseg_jax import sharding  # imports jax: not before it counts
  from semiseg_jax.training.feed import Prefetch

  mesh = sharding.make_mesh()
  place: Callable = functools.partial(sharding.put_batch, mesh)
  streams = ("labeled", "unlabeled", "unlabeled_mix")
  with Peak() as peak:
    batches = Prefetch(our_batches(shards, kind, workers=2, streams=streams), place)
    for _ in range(steps):
      next(batches)
      time.sleep(0.2)  # a step of the network, while places ahead fill
    batches.close()
  return peak.bytes
