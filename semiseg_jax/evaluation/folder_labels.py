"""Pseudo labels of a folder of plain pictures: a folder of masks, or a prepared data set.

OUT/masks/NAME.png        ids of the classes, 255 where no label is kept
OUT/confidence/NAME.png   the rounded 255-fold of the label's probability, 0 there
OUT/soft/NAME.npz         of k classes: `top_classes`, `top_probabilities`, uint8 [H,W,k]
OUT/classes.json          the classes of these masks, for data_prep.folder and data_prep.targets
OUT/origin.json           which networks labeled, and how; written last
"""

import io
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from semiseg_jax import files, leftovers
from semiseg_jax.data.pictures import Picture, read_picture
from semiseg_jax.data.targets import CONFIDENCE, LABEL
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import kept_labels, labeled_files, labeling, mapping, pictures
from semiseg_jax.evaluation.chosen_files import Chosen
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.kept_labels import Rule, Values
from semiseg_jax.evaluation.labeled_files import LabeledFiles, LeftOut
from semiseg_jax.evaluation.maps import Wanted
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.labels import IGNORE
from semiseg_jax.progress import Progress

FORMS = ("masks", "dataset")
ORIGIN = "origin.json"
Labeled = Iterable[tuple[pathlib.Path, Values]]  # a name without suffix, and what is said


def label_files(
  trained: Trained,
  how: Protocol,
  chosen: Chosen,
  out: pathlib.Path,
  *,
  form: str,
  ids: np.ndarray,
  keep: Rule,
  top: int,
  rule: int | str,
  reading: Mapping[str, Any],
  overwrite: bool = False,
) -> LeftOut:
  """Labels plain pictures with the networks of a run, and writes them in one of FORMS.

  Args:
    trained: the networks.
    how: they label.
    chosen: the pictures; read as those of the training data were, but for `reading`.
    out: the folder of masks, or of the data set.
    form: 'masks', or 'dataset', whose labels are of the classes 0 to K - 1.
    ids: of masks: [256], what is written for each class and for IGNORE.
    keep: which pixels keep their label.
    top: soft labels of so many classes are written, too; not in a data set.
    rule: how the checkpoint was chosen: its step, 'last' or 'best'.
    overwrite: replace a finished data set.

  Returns:
    A line for each picture that could not be read; all others are done.

  Raises:
    ConfigError: more classes than there are.
    DataError: a data set is there, or no picture of one can be read: then nothing is written.
    NonFiniteError: the scores hold a NaN or an infinity.
  """
  about, failures = trained.dataset, LeftOut()
  wanted = Wanted(confidence=True, doubt=keep.share > 0, top=top)
  segmenter = mapping.segmenter(trained, how, wanted, probabilities=True)
  reading = labeled_files.reading(about, reading)
  labeled = labeled_files.begin(
    segmenter.segment_many, chosen.files, failures, channels=about["channels"], how=reading
  )
  found = ((chosen.name(file), values) for file, values in _each(labeled, failures.pictures))
  kept = kept_labels.kept(found, keep, len(about["classes"]), out.absolute().parent)
  origin = labeling.origin(trained, how, name=trained.config.name, rule=rule) | keep.as_dict()
  if form == "masks":
    write_masks(out, kept, about=about, ids=ids, origin=origin)
    return failures
  files_of = {chosen.name(file): file for file in chosen.files}
  read = lambda name: read_picture(files_of[name], channels=about["channels"], **reading)
  options = {"read": read, "reading": reading, "failures": failures, "overwrite": overwrite}
  write_dataset(out, kept, about=about, origin=origin, **options)
  return failures


def _each(labeled: LabeledFiles, total: int) -> Iterator[tuple[pathlib.Path, Values]]:
  with Progress(total, title="label") as shown:
    while (one := labeled.next()) is not None:
      said = one.file, labeling.values_of(one.maps)
      del one  # with its picture, before the next one is made
      yield said
      shown.advance()


def write_masks(
  out: pathlib.Path,
  labeled: Labeled,
  *,
  about: Mapping[str, Any],
  ids: np.ndarray,
  origin: Mapping[str, Any],
) -> list[int]:
  """Writes the folder of masks; each file is whole, and origin.json appears when all are there.

  Args:
    out: the folder.
    labeled: of each picture, the labels 0 to K - 1 and IGNORE.
    about: the data set of the run: classes and colors.
    ids: [256], what is written for each class and for IGNORE.
    origin: who made them.

  Returns:
    K + 1 numbers of pixels, the last of those without a label.
  """
  counts = np.zeros(len(about["classes"]) + 1, np.int64)
  out.mkdir(parents=True, exist_ok=True)
  leftovers.clear(*(out / kind for kind in ("confidence", "soft", "masks")), deep=True)
  (out / ORIGIN).unlink(missing_ok=True)
  files.write_text(out / "classes.json", json.dumps(_classes(about, ids), indent=1))
  for name, values in labeled:
    counts += _count(values[LABEL], len(counts) - 1)
    _write(out / "confidence" / f"{name}.png", values[CONFIDENCE])
    soft = {key: x for key, x in values.items() if key not in (LABEL, CONFIDENCE)}
    if soft:
      content = io.BytesIO()
      np.savez_compressed(content, **soft)
      path = out / "soft" / f"{name}.npz"
      path.parent.mkdir(parents=True, exist_ok=True)
      files.write_bytes(path, content.getvalue())
    _write(out / "masks" / f"{name}.png", ids[values[LABEL]])
  files.write_text(out / ORIGIN, json.dumps({**origin, "pixels": counts.tolist()}, indent=1))
  return counts.tolist()


def write_dataset(
  out: pathlib.Path,
  labeled: Labeled,
  *,
  read: Callable[[pathlib.Path], Picture],
  reading: Mapping[str, Any],
  failures: list[str],
  about: Mapping[str, Any],
  origin: Mapping[str, Any],
  overwrite: bool = False,
) -> list[int]:
  """Writes a data set whose labels these are, with lists `train` and `labeled` of its pictures.

  It is whole or not there; origin.json lies in it, too, and names the pictures that were left out.

  Args:
    out: its folder.
    labeled: of each picture, as `write_masks`.
    read: the picture of a name.
    reading: how it does, see DatasetInfo.
    failures: a line for each picture that could not be labeled; filled while the others are.
    about: the data set of the run.
    origin: who made them.
    overwrite: replace a finished data set.

  Returns:
    As `write_masks`.

  Raises:
    DataError: no picture could be labeled, or a data set is there; nothing is written.
  """
  counts = np.zeros(len(about["classes"]) + 1, np.int64)
  with DatasetWriter(
    out,
    name=out.name,
    classes=about["classes"],
    colors=about["colors"],
    channels=about["channels"],
    source_ids=about.get("source_ids") or (),
    reading={key: value for key, value in reading.items() if key != "max_pixels"},
    statistics=True,
    overwrite=overwrite,
  ) as writer:
    names = []
    for name, values in labeled:
      picture = read(name)
      content = {"image": picture.pixels} if picture.file is None else {"encoded": picture.file}
      writer.add(name.as_posix(), label=values[LABEL], valid=picture.valid, **content)
      counts += _count(values[LABEL], len(counts) - 1)
      names.append(name.as_posix())
    if not names:
      raise DataError.of_all(f"no picture can be labeled, and {out} is not written:", failures)
    writer.lists(train=names, labeled=names)
    about = {**origin, "pixels": counts.tolist(), "left_out": list(failures)}
    files.write_text(writer.folder / ORIGIN, json.dumps(about))
  return counts.tolist()


def _write(path: pathlib.Path, values: np.ndarray) -> None:
  pictures.write_png_of_parts(path, values.shape, lambda part: values[part])


def _count(label: np.ndarray, classes: int) -> np.ndarray:
  return np.bincount(np.minimum(label, classes).ravel(), minlength=classes + 1)


def _classes(about: Mapping[str, Any], ids: np.ndarray) -> dict[str, Any]:
  """The content of a classes file, see `data.class_table`."""
  entries = [
    {"id": int(ids[k]), "name": name, "rgb": list(map(int, color))}
    for k, (name, color) in enumerate(zip(about["classes"], about["colors"], strict=True))
  ]
  return {"num_classes": len(entries), "ignore_id": int(ids[IGNORE]), "classes": entries}
