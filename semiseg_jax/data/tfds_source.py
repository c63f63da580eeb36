"""A dataset that tensorflow_datasets wrote as array_record files, read without TensorFlow."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from semiseg_jax.data import pictures, records
from semiseg_jax.data.class_table import ClassTable, default_color, read_classes
from semiseg_jax.data.dataset import Dataset, DatasetInfo
from semiseg_jax.data.records import Example
from semiseg_jax.data.shard_reader import ShardInfo
from semiseg_jax.errors import SHOWN, DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

_PNG = b"\x89PNG"
_SUFFIX = ".array_record"


@dataclasses.dataclass(frozen=True)
class Features:
  """Which features of a build are read, and how.

  Attributes:
    image: an Image feature.
    label: an Image or LabeledImage feature of class ids, "" to read none.
    id: a Text feature that names the pictures, unique over all splits; "" numbers them,
      SPLIT_000000. With a name every start reads the whole dataset once.
    classes_file: see `class_table.read_classes`; "" takes the names of a LabeledImage.
    ignored: further label values that stand for no class, besides the classes file's or 255.
  """

  image: str
  label: str
  id: str = ""
  classes_file: str = ""
  ignored: tuple[int, ...] = ()


class TfdsDataset(Dataset):
  """A build's splits are its lists, its examples the records, in the order of the splits.

  `info.sizes` and the pixel counts are empty, as nothing is read before it is needed. The
  fingerprint is over features, splits, and names and sizes of the files, not over their content.
  """

  def __init__(
    self,
    root: str,
    info: DatasetInfo,
    shards: tuple[ShardInfo, ...],
    features: Features,
    table: ClassTable | None,
  ):
    super().__init__(root, info, shards)
    self._features, self._table = features, table

  @classmethod
  def open(cls, root: str | os.PathLike, features: Features) -> "TfdsDataset":
    """Opens a build, the folder with `dataset_info.json` and `features.json`.

    Raises:
      DataError: no such build, not of array_record files, features or class names that are not
        there, files missing, ids that occur twice.
    """
    path = pathlib.Path(root).absolute()
    build = _load(path)
    _check_features(path, build.features, features)
    table = _class_table(path, build.features, features)
    splits = {name: build.splits[name] for name in sorted(build.splits)}
    shards = _shards(path, splits)
    ids = [f"{name}_{i:06d}" for name, split in splits.items() for i in range(split.num_examples)]
    info = DatasetInfo(
      name=build.name,
      classes=table.names if table else (),
      colors=table.colors if table else (),
      source_ignore_id=table.ignore_id if table else None,
      channels=build.features[features.image].shape[-1] or 0,
      ids=tuple(ids),
      sizes=(),
      labeled=(bool(features.label),) * len(ids),
      class_pixels=(),
      lists={},
      list_pixels={},
      codec="keep",
      fingerprint=_fingerprint(path, build, shards, features, table),
    )
    dataset = cls(str(path), info, shards, features, table)
    if features.id:
      ids = dataset._named_ids()
    starts = np.cumsum([0] + [split.num_examples for split in splits.values()])
    lists = {name: tuple(ids[a:b]) for name, a, b in zip(splits, starts, starts[1:])}
    channels = info.channels or records.decode_image(dataset._fields(0)[0], str(path)).shape[2]
    dataset.info = dataclasses.replace(info, ids=tuple(ids), lists=lists, channels=channels)
    return dataset

  def __getstate__(self) -> dict[str, Any]:
    return super().__getstate__() | {"features": self._features, "table": self._table}

  @functools.cached_property
  def _parser(self) -> Any:
    """A feature dict of the wanted features: all others are passed over."""
    import tensorflow_datasets as tfds

    every = tfds.features.FeatureConnector.from_config(self.root)
    wanted = filter(None, (self._features.image, self._features.label, self._features.id))
    return tfds.features.FeaturesDict({name: every[name] for name in wanted})

  def _image_features(self) -> list[str]:
    import tensorflow_datasets as tfds

    every = tfds.features.FeatureConnector.from_config(self.root)
    return [name for name in sorted(every) if isinstance(every[name], tfds.features.Image)]

  def _fields(self, index: int) -> tuple[bytes, bytes | None, str]:
    """The bytes of image and label file, and the name, of example `index`."""
    from tensorflow_datasets import decode

    skip = {name: decode.SkipDecoding() for name in self._parser}
    found = self._parser.deserialize_example_np(self.raw(index), decoders=skip)
    name = found[self._features.id].decode() if self._features.id else self.info.ids[index]
    return found[self._features.image], found.get(self._features.label), name

  def _named_ids(self) -> list[str]:
    ids = [self._fields(index)[2] for index in range(len(self))]
    seen: set[str] = set()
    twice = sorted({id_ for id_ in ids if id_ in seen or seen.add(id_)})
    if twice:
      problems = [f"{self._features.id} {id_!r} names two pictures" for id_ in twice]
      raise DataError.of_all(
        f"{self.root}: leave data.tfds_id empty, pictures share ids:", problems
      )
    return ids

  def read_ahead(self, indices: Sequence[int]) -> None:
    """Its reader takes one example at a time."""

  def record(self, index: int) -> Example:
    """Example `index`, decoded whole."""
    image, label, _ = self._fields(index)
    where = f"{self.info.ids[index]!r} of {self.root}"
    pixels = self._fit(records.decode_image(image, where), where)
    classes = None if label is None else self._convert(label, where)
    if classes is not None and classes.shape != pixels.shape[:2]:
      raise DataError(
        f"{where}: label of size {list(classes.shape)}, picture of {list(pixels.shape[:2])}; "
        "correct the build, or choose other features (data.tfds_image, data.tfds_label)"
      )
    return Example(self.info.ids[index], pixels, classes)

  def read(self, index: int) -> Example:
    """Example `index`, decoded whole."""
    return self.record(index)

  def _fit(self, pixels: np.ndarray, where: str) -> np.ndarray:
    """As tfds decodes: gray becomes color, and alpha is dropped, where three channels are said."""
    have, want = pixels.shape[2], self.info.channels
    if have == want:
      return pixels
    if want == 3 and have == 1:
      return np.repeat(pixels, 3, axis=2)
    if want == 3 and have == 4:
      return pixels[..., :3]
    raise DataError(f"{where}: {have} channels instead of {want}; correct the build")

  def _convert(self, label: bytes, where: str) -> np.ndarray:
    if not label.startswith(_PNG):
      raise DataError(
        f"{where}: its label is no PNG, so the class ids may not be exact; build it with "
        "encoding_format='png'"
      )
    try:
      values = pictures.decode_label(label, f"{where}.png", grays=True)  # tfds repeats a gray PNG
    except pictures.ColoredLabelError as error:
      raise DataError(
        f"{where}: feature {self._features.label!r} holds colors, where class ids are expected; "
        f"build it with ids, [H, W, 1], or choose another feature (data.tfds_label) of: "
        f"{', '.join(self._image_features())}"
      ) from error
    values = np.where(np.isin(values, self._features.ignored), self._table.ignore_id, values)
    try:
      return self._table.convert(values, where)
    except DataError as error:
      raise DataError(f"{where}: {_outside(values, self._table)}") from error


def _outside(values: np.ndarray, table: ClassTable) -> str:
  """What a build can do about values of no class: it knows no options of a preparation."""
  there, counts = np.unique(values, return_counts=True)
  known = {*table.source_ids, table.ignore_id}
  wrong = [f"{v} ({counted(n, 'pixel')})" for v, n in zip(there.tolist(), counts) if v not in known]
  more = ", ..." if len(wrong) > SHOWN else ""
  ids = f"{min(table.source_ids)} to {max(table.source_ids)}"
  return (
    f"{', '.join(wrong[:SHOWN])}{more} outside the classes (ids {ids}, ignored {table.ignore_id}); "
    "give the classes with their ids (--config.data.tfds_classes=FILE of lines such as '1: wall'), "
    'and the values of no class (--config.data.tfds_ignored="0,")'
  )


def _load(path: pathlib.Path) -> Any:
  """The `DatasetInfo` of tfds."""
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise DataError("a root tfds:... needs: pip install tensorflow-datasets") from error
  if not (path / "dataset_info.json").is_file():
    raise DataError(
      f"{path} is no tfds build: give the folder with dataset_info.json, "
      "DATA_DIR/NAME/[CONFIG/]VERSION"
    )
  try:
    for name in ("dataset_info.json", "features.json"):
      json.loads((path / name).read_text(encoding="utf-8"))
    info = tfds.builder_from_directory(str(path)).info
    kind = info.file_format.file_suffix
  except (OSError, ValueError, KeyError, AttributeError, RecursionError) as error:
    raise DataError(f"{path}: tfds cannot read this build ({error}); build it again") from error
  if kind != _SUFFIX.removeprefix("."):
    raise DataError(
      f"{path} is stored as {kind}, which needs TensorFlow; build it with "
      "file_format='array_record', or convert it with `tfds convert_format`"
    )
  return info


def _check_features(path: pathlib.Path, there: Any, features: Features) -> None:
  import tensorflow_datasets as tfds

  kinds = {"image": tfds.features.Image, "label": tfds.features.Image, "id": tfds.features.Text}
  listed = ", ".join(f"{name} ({type(there[name]).__name__})" for name in sorted(there))
  for use, kind in kinds.items():
    name = getattr(features, use)
    if (name or use == "image") and not (name in there and isinstance(there[name], kind)):
      raise DataError(
        f"{path}: {name!r} is no feature of kind {kind.__name__}; set data.tfds_{use} to one of: "
        f"{listed}"
      )


def _class_table(path: pathlib.Path, there: Any, features: Features) -> ClassTable | None:
  if not features.label:
    return None
  if features.classes_file:
    table = read_classes(features.classes_file)
    for note in table.notes:
      print(f"NOTE {note}")
    return table
  names = getattr(there[features.label], "names", None)
  if not names:
    raise DataError(
      f"{path}: feature {features.label!r} gives no class names; name them with "
      "data.tfds_classes=FILE, a name per line"
    )
  colors = tuple(default_color(index) for index in range(len(names)))
  return ClassTable(tuple(names), colors, tuple(range(len(names))), IGNORE, {})


def _shards(path: pathlib.Path, splits: dict[str, Any]) -> tuple[ShardInfo, ...]:
  found = []
  for split in splits.values():
    for file in split.file_instructions:
      name = os.path.relpath(file.filename, path)
      if not (path / name).is_file():
        raise DataError(f"{path / name}: missing; build the dataset again")
      size = (path / name).stat().st_size
      found.append(ShardInfo(name, file.examples_in_shard, size, sha256=""))
  if not found:
    raise DataError(f"{path} has no splits with examples; build the dataset again")
  return tuple(found)


def _fingerprint(
  path: pathlib.Path,
  build: Any,
  shards: Sequence[ShardInfo],
  features: Features,
  table: ClassTable | None,
) -> str:
  files = [(shard.file, shard.records, shard.bytes) for shard in shards]
  read = dataclasses.replace(features, classes_file="")  # its content is in the table
  what = (build.full_name, (path / "features.json").read_text(), files, read, table)
  return hashlib.sha256(repr(what).encode()).hexdigest()
