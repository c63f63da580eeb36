"""Opens the datasets that a config names, of whatever kind."""

import pathlib

from ml_collections import ConfigDict

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.errors import DataError

_TFDS = "tfds:"


def open_dataset(data: ConfigDict, root: str | None = None) -> Dataset:
  """Opens the main dataset of a run.

  Args:
    data: the `data` block of a config.
    root: in place of `data.root`.

  Raises:
    DataError: it is missing, unfinished or damaged.
  """
  root = root or data.root
  return _open_tfds(data, root, data.tfds_label) if _is_tfds(root) else Dataset.open(root)


def open_again(data: ConfigDict, root: str | None) -> Dataset:
  """Opens the dataset of a trained run, or that at `root` in its place.

  Raises:
    DataError: as `open_dataset`; of a run's own one that is gone, what names its new place.
  """
  gone = root is None and not _is_tfds(data.root) and not pathlib.Path(data.root).exists()
  if gone:
    raise DataError(
      f"{pathlib.Path(data.root).absolute()}, the dataset that the run was trained on, does not "
      "exist: start where its path leads to it, or say where it is now with --data_root=FOLDER."
    )
  return open_dataset(data, root)


def open_pool(data: ConfigDict, main: Dataset) -> Dataset | JoinedDataset:
  """What training reads: `main`, joined with `data.unlabeled_root` when that is given.

  Raises:
    DataError: the second dataset is missing, unfinished or damaged, or does not fit the first.
  """
  root = data.unlabeled_root
  if not root:
    return main
  return JoinedDataset(main, _open_tfds(data, root, "") if _is_tfds(root) else Dataset.open(root))


def _is_tfds(root: str) -> bool:
  return root.startswith(_TFDS)


def _open_tfds(data: ConfigDict, root: str, label: str) -> Dataset:
  from semiseg_jax.data import tfds_source  # tfds takes long to import, and few need it

  features = tfds_source.Features(
    image=data.tfds_image,
    label=label,
    id=data.tfds_id,
    classes_file=data.tfds_classes,
    ignored=tuple(data.tfds_ignored),
  )
  return tfds_source.TfdsDataset.open(root.removeprefix(_TFDS), features)
