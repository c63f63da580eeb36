"""Measures the memory that predict and evaluate need beside one large picture.

  python -m tests.large_picture --side=16000 --window=800 [--batch=1] [--classes=11] \\
    [--write=labels,confidence]

The network is one matrix, so that figures are those of the sliding windows, of reading and of
writing.  Prints the greatest resident memory of a process for each: that of its imports, of the
picture, and of its labels is taken off.
"""

import argparse
import multiprocessing
import pathlib
import resource
import tempfile
import threading
import time

import numpy as np
import psutil

WORK = ("segment", "predict", "count")


def _picture(side: int, part: slice) -> np.ndarray:
  """Rows of a picture [side, side, 3]: waves, and noise that packs badly."""
  y, x = np.arange(part.start, part.stop)[:, None], np.arange(side)
  noise = np.random.default_rng(part.start).integers(0, 8, (len(y), side, 3), np.uint8)
  return noise + (120 * (1 + np.sin(y / 99) * np.cos(x / 77)))[..., None].astype(np.uint8)


def _measure(work: str, folder: pathlib.Path, options: argparse.Namespace) -> None:
  import jax
  import jax.numpy as jnp

  from semiseg_jax import predict
  from semiseg_jax.evaluation import maps
  from semiseg_jax.evaluation.confusion import count_picture
  from semiseg_jax.evaluation.windows import Segmenter

  side, window, classes = options.side, options.window, options.classes
  matrix = jnp.asarray(np.random.default_rng(0).normal(size=(3, classes)), jnp.float32)
  forward = jax.jit(lambda images, valid: images.astype(jnp.float32) @ matrix)
  options_ = {"window": (window, window), "batch": options.batch, "num_classes": classes}
  segmenter = Segmenter(forward, **options_)
  segmenter(np.zeros((window, 2 * window, 3), np.uint8))
  before, began = _Peak(), time.process_time()
  if work == "predict":
    colors = [(17 * k % 256, 90, 3 * k) for k in range(classes)]
    names = [str(k) for k in range(classes)]
    twice = jax.jit(lambda images, valid: jnp.tile(jax.nn.softmax(forward(images, valid)), 2))
    mapped = lambda wanted: Segmenter(
      twice,
      **options_ | {"num_classes": 2 * classes, "classify": maps.classify(wanted, classes)},
    )
    about = {"classes": names, "colors": colors, "channels": 3}
    predictor = predict.Predictor(segmenter, **about, mapped=mapped)
    kinds = predict.parse_kinds(options.write)
    failures = predict.predict_folder(predictor, folder / "in", folder / "out", write=kinds)
    assert not failures, failures
    own = (4 + sum(kind in ("confidence", "disagreement") for kind in kinds)) * side * side
  else:
    image = np.empty((side, side, 3), np.uint8)
    for start in range(0, side, 500):
      part = slice(start, min(start + 500, side))
      image[part] = _picture(side, part)
    if work == "segment":
      segmenter(image)
      own = 4 * side * side
    else:
      label = image[..., 0] % classes
      count_picture(label, label, classes)
      own = 5 * side * side
  peak = before.above()
  print(
    f"{work:8} {side}x{side}, window {window}, batch {options.batch}, {classes} classes: "
    f"{(peak - own) / 1e9:5.2f} GB beside picture and labels ({own / 1e9:.2f} GB), "
    f"{time.process_time() - began:.0f} s of processor time",
    flush=True,
  )


class _Peak:
  """The greatest resident memory since this was made, by looking often."""

  def __init__(self):
    self._process, self._most, self._ended = psutil.Process(), 0, threading.Event()
    self._before = self._process.memory_info().rss
    self._thread = threading.Thread(target=self._look, daemon=True)
    self._thread.start()

  def _look(self) -> None:
    while not self._ended.wait(0.02):
      self._most = max(self._most, self._process.memory_info().rss)

  def above(self) -> int:
    """Bytes above those at the beginning."""
    self._ended.set()
    self._thread.join()
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return max(self._most, whole if whole > self._most else 0) - self._before


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  for name, value in (("side", 16000), ("window", 800), ("batch", 1), ("classes", 11)):
    parser.add_argument(f"--{name}", type=int, default=value)
  parser.add_argument("--write", default="labels,color,overlay", help="kinds that predict writes")
  parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
  options = parser.parse_args()
  from semiseg_jax.evaluation.pictures import write_png_of_parts

  with tempfile.TemporaryDirectory() as temporary:
    folder, side = pathlib.Path(temporary), options.side
    if "predict" in options.work:
      make = lambda part: _picture(side, slice(*part.indices(side)[:2]))
      write_png_of_parts(folder / "in/large.png", (side, side), make)
    for work in options.work:
      process = multiprocessing.get_context("spawn").Process(
        target=_measure, args=(work, folder, options)
      )
      process.start()
      process.join()


if __name__ == "__main__":
  main()
