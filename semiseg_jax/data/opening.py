"""Opens the datasets that a config names, of whatever kind."""

import pathlib

from ml_collections import ConfigDict

from semiseg_jax.data.dataset import METADATA, Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.errors import DataError

_TFDS = "tfds:"


def open_dataset(
  data: ConfigDict, root: str | None = None, option: str = "--config.data.root=FOLDER"
) -> Dataset:
  """Opens the main dataset of a run.

  Args:
    data: the `data` block of a config.
    root: in place of `data.root`.
    option: by which a user says where `data.root` is, for the error where it is not there.

  Raises:
    DataError: it is missing, unfinished or damaged.
  """
  chosen = root or data.root
  if _is_tfds(chosen):
    return _open_tfds(data, chosen, data.tfds_label)
  return Dataset.open(root) if root else _opened(data.root, option)


def open_again(data: ConfigDict, root: str | None) -> Dataset:
  """Opens the dataset of a trained run, or that at `root` in its place.

  Raises:
    DataError: as `open_dataset`; of a run's own one that is gone, what names its new place.
  """
  if root is None and _is_gone(data.root):
    path = pathlib.Path(data.root).absolute()
    raise DataError(
      f"{path}, the dataset that the run was trained on, "
      f"{'holds none now' if path.exists() else 'does not exist'}: start where its path leads to "
      "it, or say where it is now with --data_root=FOLDER."
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
  option = "--config.data.unlabeled_root=FOLDER"
  second = _open_tfds(data, root, "") if _is_tfds(root) else _opened(root, option)
  return JoinedDataset(main, second)


def _opened(root: str, option: str) -> Dataset:
  """The dataset; where there is none, the error names the option that says where it is."""
  try:
    return Dataset.open(root)
  except DataError as error:
    if not _is_gone(root):
      raise
    raise DataError(f"{error}; if it was moved, say where it is now with {option}") from error


def _is_gone(root: str) -> bool:
  return not _is_tfds(root) and not (pathlib.Path(root) / METADATA).is_file()


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
