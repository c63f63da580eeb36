"""Labels for pictures from a trained run.

    python -m semiseg_jax.predict --workdir=runs/cps_toy --images=photos --out=labeled

Writes, for every picture under --images (sub-folders too), OUT/labels/NAME.png (class ids, gray),
OUT/color/NAME.png and OUT/overlay/NAME.png. From Python: `load_predictor(workdir)(image)`;
`.predict` has probabilities, `.save` writes palette pictures.
"""

import collections
import concurrent.futures
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from semiseg_jax import arguments, console, memory, progress, signals
from semiseg_jax.data import orientation, picture_files, picture_sizes, tiff
from semiseg_jax.data.pictures import PICTURE_SUFFIXES
from semiseg_jax.errors import DataError, ending
from semiseg_jax.evaluate import add_network_flags, take_gating
from semiseg_jax.evaluation import gate as gates
from semiseg_jax.evaluation import (
  geotiff,
  given,
  inference,
  labeled_files,
  palette,
  pictures,
  protocol,
  source_ids,
)
from semiseg_jax.evaluation.gate import Gating
from semiseg_jax.evaluation.given import Prediction
from semiseg_jax.evaluation.labeled_files import LabeledFiles
from semiseg_jax.evaluation.run import read_ahead
from semiseg_jax.evaluation.windows import LARGE, Segmenter, Size
from semiseg_jax.exporting import predicting as exported
from semiseg_jax.labels import IGNORE
from semiseg_jax.workdir import store

_WRITES_AHEAD = 16
_KINDS = ("labels", "color", "overlay")  # sub-folders of the results


class LeftOut(list[str]):
  """A line for each picture that could not be read.

  Attributes:
    pictures: the number of all, those that are done included.
  """

  pictures: int = 0


class Predictor:
  """Labels pictures with a trained network.

  Attributes:
    classes, colors: of the labels.  channels: of the pictures it takes.
    about: the data set it was trained on.
  """

  def __init__(
    self,
    segmenter: Segmenter,
    *,
    classes: Sequence[str],
    colors: pictures.Colors,
    channels: int,
    about: dict[str, Any] | None = None,
    sure: Callable[[], Segmenter] | None = None,
    value_range: tuple[float, float] | None = None,
  ):
    """Args: see the class.  sure: makes a segmenter of probabilities; value_range: of files."""
    self.classes, self.colors, self.channels = tuple(classes), tuple(map(tuple, colors)), channels
    self.about = about or {"name": "unknown", "classes": classes}
    self._segmenter, self._make_sure = segmenter, sure
    self._given = {"value_range": value_range}

  def __call__(self, images: given.Pictures) -> np.ndarray | list[np.ndarray]:
    """Labels uint8 [H,W] of a picture; of a list or a batch [B,H,W,C] a list of them.

    A picture is uint8 [H,W,C] (RGB order), where C is 1 also [H,W], or the path of a file.

    Raises:
      DataError: not uint8, not the channels the network was trained on, a file that is no picture.
    """
    read = given.read(images, self.channels, **_reading(self, self._given))
    found = list(self.predict_many(read))
    return found[0] if given.is_one(images) else found

  def predict(self, images: given.Pictures) -> Prediction | list[Prediction]:
    """Labels, probabilities and confidence; what is taken and raised as when called.

    Unlike labels, probabilities [H,W,K] need the memory of the whole picture, four bytes each.

    Windows that overlap are joined by their probabilities; when called, those of one network are
    joined by their logits, so that labels may differ at a few borders between classes there.
    """
    read = given.read(images, self.channels, **_reading(self, self._given))
    sizes = [image.shape[:2] for image in read]
    found = [Prediction(*pair) for pair in self._sure.segment_many(read, sizes)]
    return found[0] if given.is_one(images) else found

  def save(self, labels: np.ndarray, path: str | os.PathLike) -> None:
    """Writes labels [H,W] as a PNG of class ids with the colors of the classes as its palette.

    The classes' names stand in its text, and beside their colors in legend.png in its folder.
    """
    palette.write(path, labels, self.classes, self.colors)

  @functools.cached_property
  def _sure(self) -> Segmenter:
    return self._make_sure()

  def predict_many(
    self, images: Iterable[np.ndarray], sizes: Iterable[Size] = ()
  ) -> Iterator[np.ndarray]:
    """Labels uint8 [H,W] of each picture uint8 [H,W,C], in order, several windows at a time.

    `sizes`, (H, W) of what will come; a list of pictures tells them itself.  Where they are known,
    whole pictures are padded by them alone; where they are not, by what came before as well.
    """
    if isinstance(images, Sequence) and not sizes:
      sizes = [image.shape[:2] for image in images]
    return self._segmenter.segment_many(images, sizes)


def load_predictor(
  workdir: str,
  *,
  step: int | str = "last",
  network: str | None = None,
  stack: str | None = None,
  mode: str | None = None,
  whole: str | None = None,
  window: Size | None = None,
  stride: Size | None = None,
  batch: int = 1,
  gate: Gating | str | None = None,
  value_range: tuple[float, float] | None = None,
) -> Predictor:
  """A predictor from a training run, on one device.

  Args:
    workdir: of the training run; or what semiseg_jax.export wrote of one, a .semiseg file or a
      folder for a hub.
    step: a checkpoint's step, 'last' or 'best'.
    network: an index or 'mean'; like the rest, the config's `eval` block by default.
    stack: which networks, e.g. 'teacher'.
    mode: 'whole' or 'slide'.
    whole: of the former, 'padded' to sizes like those of training, or 'as_is'.
    window: (height, width) of the latter.
    stride: (height, width).
    batch: windows per call of the network; above 1 it pays on accelerators.
    gate: see `evaluate`.
    value_range: (low, high) mapped to 0..255 in files of other than 8 bits a channel.

  Raises:
    CheckpointError: nothing to restore.
    ConfigError: an impossible protocol, no such network or stack, or a gate that does not fit.
  """
  mesh = Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("replica", "data"))
  if exported.is_file(workdir):
    chosen = {"step": step, "network": network, "stack": stack, "gate": gate, "batch": batch}
    how = {"mode": mode, "whole": whole, "window": window, "stride": stride}
    return Predictor(value_range=value_range, **exported.parts(workdir, **chosen, **how))
  with store.opened(workdir, writes=False) as folder:
    trained = exported.load_trained(folder, step, mesh, stack)
  how = protocol.from_config(
    trained.config.eval,
    mode=mode,
    whole=whole,
    window=window,
    stride=stride,
    network=network,
    batch=batch,
  )
  about, forward = trained.dataset, inference.make_forward(trained, how.network)
  grid = inference.grid(trained.config, trained.members)
  classes, gated = len(about["classes"]), gates.applied(gate, trained, how)
  segmenter = gated.segmenter(forward, classes, grid=grid)

  def sure() -> Segmenter:
    certain = inference.make_forward(trained, how.network, probabilities=True)
    return gated.segmenter(certain, classes, probabilities=True, grid=grid)

  return Predictor(
    segmenter,
    classes=about["classes"],
    colors=about["colors"],
    channels=about["channels"],
    about=about,
    sure=sure,
    value_range=value_range,
  )


def predict_folder(
  predictor: Predictor,
  images: str,
  out: str,
  *,
  value_range: Sequence[float] | None = None,
  ids: str = "train",
  **reading: Any,
) -> LeftOut:
  """Labels every picture under `images`; see the module for what is written.

  Where `out` is a store, results lie on this machine until all are done.

  Files are read as those of the training data were.  A GeoTIFF's labels are written as one, too,
  with its place on the earth; pixels without data get the id 255, or the greatest that
  no class has.

  Hidden files are no pictures, and neither are those with the names of masks of others.

  Args:
    predictor: the network.
    images: the folder; sub-folders count.
    out: the folder for results, also gs://... or s3://...
    value_range: what is mapped to 0..255 in pictures of other than 8 bits a channel, where that is
      to be another range than that of the training data.
    ids: what OUT/labels holds: 'train' for 0 to K - 1, 'source' for the ids of the masks.
    **reading: further arguments of `read_picture` that are to be others.

  Returns:
    A line for each picture that could not be read; all others are done.

  Raises:
    DataError: no pictures, two that would get the same name, or `out` among the pictures or not
      to be written to, or ids of the source that are not known.
  """
  store.refuse(images, "--images")
  with store.opened(out, reads=False) as folder:
    return _predict_folder(predictor, images, folder, value_range, ids, reading)


def _predict_folder(
  predictor: Predictor,
  images: str,
  out: str,
  value_range: Sequence[float] | None,
  ids: str,
  reading: dict[str, Any],
) -> LeftOut:
  root, target = pathlib.Path(images), pathlib.Path(out)
  written = source_ids.with_ignored(source_ids.table(ids, predictor.about))
  files = _pictures_under(root, target)
  _check_writable(target)
  failures = LeftOut()
  failures.pictures = len(files)
  how = _reading(predictor, {"value_range": value_range, **reading})
  exif = how.get("exif", orientation.TURN)
  sizes = [picture_sizes.size_of(file, exif) for file in files]
  read = functools.partial(labeled_files.read, channels=predictor.channels, how=how)
  known = list(filter(None, sizes))
  labeled = LabeledFiles(predictor.predict_many, read_ahead(read, files, sizes), known, failures)
  writing: collections.deque[concurrent.futures.Future] = collections.deque()
  pool = concurrent.futures.ThreadPoolExecutor(2)
  with pool, progress.Progress(len(files), title="predict") as shown:
    # No name in here holds a picture or its labels while the next are made.
    while (one := labeled.next()) is not None:
      name, pixels = one.file.relative_to(root).with_suffix(".png"), one.label.size
      writing.append(pool.submit(_write, target, name, *one, predictor.colors, written))
      del one
      while len(writing) > (_WRITES_AHEAD if pixels <= LARGE else 0):
        _take(writing, failures)
      shown.advance()
    while writing:
      _take(writing, failures)
  return failures


def _take(writing: collections.deque[concurrent.futures.Future], failures: list[str]) -> None:
  failure = writing.popleft().result()
  if failure:
    failures.append(failure)


def _reading(predictor: Predictor, given: Mapping[str, Any]) -> dict[str, Any]:
  """How to read files: as the training data were, but for what is given, which is said."""
  kept = dict(predictor.about.get("reading") or {})  # absent in checkpoints of earlier versions
  given = {key: value for key, value in given.items() if value is not None}
  for key, value in given.items():
    known = kept.get(key, value)
    if known != (list(value) if key == "value_range" else value):
      print(f"NOTE: --{key} {value} where the training data were prepared with {known}")
  if "value_range" in given:  # which may be for values of another kind
    kept.pop("values", None)
  return kept | given


def _pictures_under(root: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
  if not root.is_dir():
    raise DataError(f"{root} is not a folder; give the folder of the pictures")
  if pathlib.Path(os.path.realpath(out)).is_relative_to(os.path.realpath(root)):
    raise DataError(f"{out} lies in {root}: results would be taken for pictures; choose another")
  there = picture_files.files_under(root)
  files = sorted(p for p in there if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
  if not files:
    raise DataError(f"no pictures under {root}; looked for {', '.join(PICTURE_SUFFIXES)}")
  masks = picture_files.masks_by_name(files)
  if masks:
    first, other = next(iter(masks.items()))
    print(
      f"NOTE: {len(masks)} files have the names of masks and are left out, the first is {first} "
      f"beside {other}; put those that are pictures into a folder of their own"
    )
    files = [file for file in files if file not in masks]
  names: dict[pathlib.Path, pathlib.Path] = {}
  for file in files:
    other = names.setdefault(file.with_suffix(""), file)
    if other != file:
      raise DataError(f"{other} and {file} would get the same name; rename one of them")
  return files


def _check_writable(out: pathlib.Path) -> None:
  for kind in _KINDS:
    try:
      (out / kind).mkdir(parents=True, exist_ok=True)
      with tempfile.TemporaryFile(dir=out / kind) as probe:
        probe.write(b"probe")
    except OSError as error:
      raise DataError(
        f"cannot write in {out / kind} ({error.strerror}); choose another --out"
      ) from error


def _write(
  out: pathlib.Path,
  name: pathlib.Path,
  source: pathlib.Path,
  image: np.ndarray,
  label: np.ndarray,
  colors: list,
  ids: np.ndarray,
) -> str | None:
  """Writes all kinds of results; why not, where memory runs out."""
  made = {
    "labels": lambda part: ids[label[part]],
    "color": lambda part: pictures.colorize(label[part], colors),
    "overlay": lambda part: pictures.overlay(image[part], label[part], colors),
  }
  try:
    for kind in _KINDS:
      pictures.write_png_of_parts(out / kind / name, label.shape, made[kind])
    if source.suffix.lower() in tiff.SUFFIXES:
      place = out / "labels" / name.with_suffix(".tif")
      geotiff.write_label(place, ids[label], source, nodata=int(ids[IGNORE]))
  except MemoryError as error:
    return memory.describe(str(source), error)
  return None


def main(argv: Sequence[str] | None = None) -> None:
  """The command line; exits with 1 when pictures could not be read."""
  parser = arguments.Parser("semiseg_jax.predict", __doc__.partition("\n")[0])
  add_network_flags(parser)
  parser.add_argument("--images", required=True, metavar="DIR", help="folder of pictures")
  parser.add_argument(
    "--out", required=True, metavar="DIR", help="folder for the results, made when missing"
  )
  parser.add_argument(
    "--batch", type=int, default=1, metavar="N", help="windows per call of the network (1)"
  )
  parser.add_argument(
    "--value_range",
    nargs="+",
    type=float,
    metavar="LOW HIGH",
    help="what becomes 0 and 255 in pictures of more than 8 bits; default: as in preparation",
  )
  parser.add_argument(
    "--ids",
    choices=source_ids.IDS,
    default="train",
    help="in OUT/labels: 0, 1, ... in the order of the classes (train), or those that the masks of "
    "the training data have (source)",
  )
  parser.add_argument(
    "--exif", choices=orientation.CHOICES, help="orientation tags; default: as in preparation"
  )
  parser.add_argument(
    "--max_pixels", type=int, metavar="N", help="larger pictures are refused (1073741824)"
  )
  flags = vars(parser.parse_args(argv))
  images, out = flags.pop("images"), flags.pop("out")
  reading = {name: flags.pop(name) for name in ("value_range", "ids", "exif", "max_pixels")}
  console.prepare()
  with signals.answered(), ending("predict"), memory.named(lambda: images):
    predictor = load_predictor(gate=take_gating(flags), **flags)
    failures = predict_folder(predictor, images, out, **reading)
  done = failures.pictures - len(failures)
  if done:
    print(f"labels, color and overlay of each picture lie in {out}")
  if failures:
    raise SystemExit(
      f"predict: {done} of {failures.pictures} done, {len(failures)} picture(s) were left out:\n  "
      + "\n  ".join(failures)
    )


if __name__ == "__main__":
  main()
