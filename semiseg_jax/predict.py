"""Labels for pictures from a trained run.

    python -m semiseg_jax.predict --workdir=runs/cps_toy --images=photos --out=labeled

Writes, for every picture under --images (sub-folders too) or in the text file --list,
OUT/labels/NAME.png (class ids, gray), OUT/color/NAME.png and OUT/overlay/NAME.png, or what --write
names, see `map_files`. From Python: `load_predictor(workdir)(image)`; `.predict` has probabilities,
`.save` writes palette pictures.
"""

import argparse
import collections
import concurrent.futures
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from semiseg_jax import arguments, console, memory, progress, signals
from semiseg_jax.data import orientation
from semiseg_jax.errors import ConfigError, ending
from semiseg_jax.evaluate import add_network_flags, take_gating
from semiseg_jax.evaluation import (
  chosen_files,
  given,
  inference,
  labeled_files,
  map_files,
  mapping,
  palette,
  pictures,
  protocol,
  source_ids,
)
from semiseg_jax.evaluation import gate as gates
from semiseg_jax.evaluation.chosen_files import Chosen
from semiseg_jax.evaluation.gate import Gating
from semiseg_jax.evaluation.given import Prediction
from semiseg_jax.evaluation.labeled_files import LeftOut
from semiseg_jax.evaluation.map_files import MapFiles
from semiseg_jax.evaluation.maps import LABELS_ALONE, Maps, Wanted
from semiseg_jax.evaluation.windows import LARGE, Segmenter, Size
from semiseg_jax.exporting import predicting as exported
from semiseg_jax.workdir import store

_WRITES_AHEAD = 16
_AHEAD_BYTES = 1 << 28  # of their maps


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
    mapped: Callable[[Wanted], Segmenter] | None = None,
    value_range: tuple[float, float] | None = None,
    refuse: Callable[[object, Size], None] = lambda name, size: None,
  ):
    """Args: see the class.

    sure: makes a segmenter of probabilities; mapped: makes one of maps; value_range: of files;
    refuse: raises DataError for pictures of a size that cannot be labeled.
    """
    self.refuse = refuse
    self.classes, self.colors, self.channels = tuple(classes), tuple(map(tuple, colors)), channels
    self.about = about or {"name": "unknown", "classes": classes}
    self._segmenter, self._make_sure, self._make_mapped = segmenter, sure, mapped
    self._mapped: dict[Wanted, Segmenter] = {}
    self._given = {"value_range": value_range}

  def __call__(self, images: given.Pictures) -> np.ndarray | list[np.ndarray]:
    """Labels uint8 [H,W] of a picture; of a list or a batch [B,H,W,C] a list of them.

    A picture is uint8 [H,W,C] (RGB order), where C is 1 also [H,W], or the path of a file.

    Whole pictures that come one by one are padded to sizes of those before them, so that labels
    near borders of classes depend on what came before; those of a list, of windows and of
    `whole='as_is'` do not.

    Raises:
      DataError: not uint8, not the channels the network was trained on, a file that is no picture.
    """
    read = given.read(images, self.channels, **labeled_files.reading(self.about, self._given))
    found = list(self.predict_many(read))
    return found[0] if given.is_one(images) else found

  def predict(self, images: given.Pictures) -> Prediction | list[Prediction]:
    """Labels, probabilities and confidence; what is taken and raised as when called.

    Unlike labels, probabilities [H,W,K] need the memory of the whole picture, four bytes each.

    Windows that overlap are joined by their probabilities; when called, those of one network are
    joined by their logits, so that labels may differ at a few borders between classes there.
    """
    read = given.read(images, self.channels, **labeled_files.reading(self.about, self._given))
    sizes = [image.shape[:2] for image in read] if len(read) > 1 else ()
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

    `sizes`, (H, W) of what will come; a list of several pictures tells them itself.  Where they are
    known, whole pictures are padded by them alone; where they are not, by what came before as well,
    so that pictures one by one make do with few compilations.
    """
    if isinstance(images, Sequence) and len(images) > 1 and not sizes:
      sizes = [image.shape[:2] for image in images]
    return self._segmenter.segment_many(images, sizes)

  def maps_many(
    self, wanted: Wanted, images: Iterable[np.ndarray], sizes: Iterable[Size] = ()
  ) -> Iterator[Maps]:
    """As `predict_many`, with further maps of each picture.

    The labels are the same but where two classes tie to the last digit: sums are in another order.

    Raises:
      ConfigError: as `prepare`.
    """
    self.prepare(wanted)
    return self._mapped[wanted].segment_many(images, sizes)

  def prepare(self, wanted: Wanted) -> None:
    """Makes what makes these maps.

    Raises:
      ConfigError: the disagreement of one network, more classes than there are, or a predictor
        that gives labels alone.
    """
    if wanted in self._mapped or wanted == LABELS_ALONE:
      return
    if self._make_mapped is None:
      raise ConfigError("this predictor gives labels alone; load that of a training run for maps")
    self._mapped[wanted] = self._make_mapped(wanted)


def load_predictor(
  workdir: str,
  *,
  step: int | str = "last",
  network: str | None = None,
  stack: str | None = None,
  batch: int | None = 1,
  gate: Gating | str | None = None,
  value_range: tuple[float, float] | None = None,
  **seen: Any,
) -> Predictor:
  """A predictor from a training run, on one device.

  Args:
    workdir: of the training run; or what semiseg_jax.export wrote of one, a .semiseg file or a
      folder for a hub.
    step: a checkpoint's step, 'last' or 'best'.
    network: an index or 'mean'; like the rest, the config's `eval` block by default.
    stack: which networks, e.g. 'teacher'.
    batch: windows per call of the network; above 1 it pays on accelerators.  None: eval.batch.
    gate: see `evaluate`.
    value_range: (low, high) mapped to 0..255 in files of other than 8 bits a channel.
    **seen: as for `evaluate`; window and stride are (height, width).

  Raises:
    CheckpointError: nothing to restore.
    ConfigError: an impossible protocol, no such network or stack, or a gate that does not fit.
  """
  mesh = Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("replica", "data"))
  if exported.is_file(workdir):
    chosen = {"step": step, "network": network, "stack": stack, "gate": gate, "batch": batch}
    return Predictor(value_range=value_range, **exported.parts(workdir, **chosen, **seen))
  with store.opened(workdir, writes=False) as folder:
    trained = exported.load_trained(folder, step, mesh, stack)
  how = protocol.for_new_pictures(trained.config.eval, network=network, batch=batch, **seen)
  about, forward = trained.dataset, inference.make_forward(trained, how.network, **how.views())
  grid = inference.grid(trained.config, trained.members)
  classes, gated = len(about["classes"]), gates.applied(gate, trained, how)
  segmenter = gated.segmenter(forward, classes, grid=grid)

  def sure() -> Segmenter:
    certain = inference.make_forward(trained, how.network, **how.views(probabilities=True))
    return gated.segmenter(certain, classes, probabilities=True, grid=grid)

  return Predictor(
    segmenter,
    classes=about["classes"],
    colors=about["colors"],
    channels=about["channels"],
    about=about,
    sure=sure,
    mapped=functools.partial(mapping.segmenter, trained, gated),
    value_range=value_range,
  )


def predict_folder(
  predictor: Predictor,
  images: str | None,
  out: str,
  *,
  listed: str | None = None,
  write: Sequence[str] = map_files.USUAL,
  topk: int = 0,
  value_range: Sequence[float] | None = None,
  ids: str = "train",
  **reading: Any,
) -> LeftOut:
  """Labels the pictures of a folder or a list; `map_files` says what is written.

  Where `out` is a store, results lie on this machine until all are done.

  Files are read as those of the training data were.  A GeoTIFF's labels are written as one, too,
  with its place on the earth; pixels without data get the id 255, or the greatest that
  no class has.

  Hidden files are no pictures, and neither are those with the names of masks of others.

  Args:
    predictor: the network.
    images: the folder; sub-folders count.  With a list, its lines are relative to it.
    out: the folder for results, also gs://... or s3://...
    listed: a text file of paths, see `chosen_files.of_list`.
    write: the kinds of files, some of `map_files.KINDS`.
    topk: probabilities are of so many classes of each pixel; 0: of all.
    value_range: what is mapped to 0..255 in pictures of other than 8 bits a channel, where that is
      to be another range than that of the training data.
    ids: what OUT/labels holds: 'train' for 0 to K - 1, 'source' for the ids of the masks.
    **reading: further arguments of `read_picture` that are to be others.

  Returns:
    A line for each picture that could not be read; all others are done.

  Raises:
    DataError: no pictures, some of a list that are missing, two that would get the same name, or
      `out` among the pictures or not to be written to, or ids of the source that are not known.
    ConfigError: an unknown kind, or one that the networks do not have.
  """
  for path, flag in ((images, "--images"), (listed, "--list")):
    store.refuse(path or "", flag)
  wanted = map_files.wanted(write, topk)
  with store.opened(out, reads=False) as folder:
    values = source_ids.with_ignored(source_ids.table(ids, predictor.about))
    chosen = chosen_files.choose(images, listed, pathlib.Path(folder))
    if wanted != LABELS_ALONE:
      predictor.prepare(wanted)
    results = MapFiles(pathlib.Path(folder), tuple(write), predictor.colors, values)
    results.prepare()
    how = labeled_files.reading(predictor.about, {"value_range": value_range, **reading})
    return _each_written(predictor, chosen, results, wanted, how)


def _each_written(
  predictor: Predictor, chosen: Chosen, results: MapFiles, wanted: Wanted, how: Mapping[str, Any]
) -> LeftOut:
  """Labels pictures one by one, and writes them beside that."""
  classes, failures = len(predictor.about["classes"]), LeftOut()
  segment = predictor.predict_many

  def check(file: pathlib.Path, size: Size) -> None:
    predictor.refuse(file, size)
    map_files.check_size(file, size, wanted, classes)

  if wanted != LABELS_ALONE:
    segment = functools.partial(predictor.maps_many, wanted)
  labeled = labeled_files.begin(
    segment,
    chosen.files,
    failures,
    channels=predictor.channels,
    how=how,
    check=check,
  )
  writing: collections.deque[concurrent.futures.Future] = collections.deque()
  pool = concurrent.futures.ThreadPoolExecutor(2)
  with pool, progress.Progress(len(chosen.files), title="predict") as shown:
    # No name in here holds a picture or its labels while the next are made.
    while (one := labeled.next()) is not None:
      held = sum(x.nbytes for x in one.maps if x is not None)
      ahead = min(_WRITES_AHEAD, _AHEAD_BYTES // held) if one.maps.labels.size <= LARGE else 0
      writing.append(pool.submit(results.write, chosen.name(one.file), one))
      del one
      while len(writing) > ahead:
        _take(writing, failures)
      shown.advance()
    while writing:
      _take(writing, failures)
  return failures


def _take(writing: collections.deque[concurrent.futures.Future], failures: list[str]) -> None:
  failure = writing.popleft().result()
  if failure:
    failures.append(failure)


def main(argv: Sequence[str] | None = None) -> None:
  """The command line; exits with 1 when pictures could not be read."""
  parser = arguments.Parser("semiseg_jax.predict", __doc__.partition("\n")[0])
  add_network_flags(parser)
  parser.add_argument("--images", metavar="DIR", help="folder of pictures")
  parser.add_argument(
    "--list",
    metavar="FILE",
    dest="listed",
    help="text file of pictures, one path a line, relative to --images or to the file",
  )
  parser.add_argument(
    "--out", required=True, metavar="DIR", help="folder for the results, made when missing"
  )
  parser.add_argument(
    "--write",
    type=parse_kinds,
    default=map_files.USUAL,
    metavar="KIND,KIND",
    help=f"what is written, of {','.join(map_files.KINDS)} ({','.join(map_files.USUAL)})",
  )
  parser.add_argument(
    "--topk", type=int, default=0, metavar="K", help="probabilities of so many classes of a pixel"
  )
  parser.add_argument(
    "--batch", type=int, metavar="N", help="windows per call of the network; default eval.batch"
  )
  parser.add_argument(
    "--ids",
    choices=source_ids.IDS,
    default="train",
    help="in OUT/labels: 0, 1, ... in the order of the classes (train), or those that the masks of "
    "the training data have (source)",
  )
  add_reading_flags(parser)
  flags = vars(parser.parse_args(argv))
  images, out, write = (flags.pop(name) for name in ("images", "out", "write"))
  names = ("listed", "topk", "value_range", "ids", "exif", "max_pixels")
  options = {name: flags.pop(name) for name in names}
  console.prepare()
  about = images or options["listed"]
  with signals.answered(), ending("predict"), memory.named(lambda: about):
    map_files.wanted(write, options["topk"])  # before a checkpoint is read
    predictor = load_predictor(gate=take_gating(flags), **flags)
    failures = predict_folder(predictor, images, out, write=write, **options)
  told(failures, "predict", f"{', '.join(write[:-1])}{' and ' * (len(write) > 1)}{write[-1]}", out)


def add_reading_flags(parser: argparse._ActionsContainer) -> None:
  """The flags of how picture files are read."""
  parser.add_argument(
    "--value_range",
    nargs="+",
    type=float,
    metavar="LOW HIGH",
    help="what becomes 0 and 255 in pictures of more than 8 bits; default: as in preparation",
  )
  parser.add_argument(
    "--exif", choices=orientation.CHOICES, help="orientation tags; default: as in preparation"
  )
  parser.add_argument(
    "--max_pixels", type=int, metavar="N", help="larger pictures are refused (1073741824)"
  )


def parse_kinds(text: str) -> tuple[str, ...]:
  """'labels,color' -> ('labels', 'color'), each once."""
  return tuple(dict.fromkeys(kind.strip() for kind in text.split(",") if kind.strip()))


def told(failures: LeftOut, command: str, what: str, out: str) -> None:
  """Says where results lie; SystemExit with the pictures that were left out."""
  if failures.done:
    print(f"{what} of each picture lie in {out}")
  failures.end(command)


if __name__ == "__main__":
  main()
