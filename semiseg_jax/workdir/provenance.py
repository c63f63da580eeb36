"""What a run records of its origin, and the check that a resumed run is still the same run."""

import json
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from semiseg_jax import files
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.errors import ConfigError
from semiseg_jax.options import flat


def describe_run(
  config: ConfigDict,
  dataset: Dataset | JoinedDataset,
  lists: Mapping[str, IdList | None],
  nets: dict[str, Any],
  fixed: dict[str, Any],
  targets: dict[str, Any] | None = None,
) -> dict[str, Any]:
  """Returns the `meta` item of every checkpoint, plain JSON values.

  Args:
    config: of the run.
    dataset: what training reads; the first of two joined ones is described as the dataset, the
      second under 'more_unlabeled'.
    lists: use -> list: the sources, and 'val'.
    nets: what rebuilds its networks: 'nets', 'evaluated' and 'stacks', see `describe_nets` in
      semiseg_jax/training/experiment.py.
    fixed: stack of a fixed net -> its source and checksum.
    targets: what is known of the stored targets it learns from.
  """
  joined = isinstance(dataset, JoinedDataset)
  info = dataset.first.info if joined else dataset.info
  more = dataset.second.info if joined else None
  return {
    "config": json.loads(config.to_json_best_effort()),
    "dataset": {
      "name": info.name,
      "classes": list(info.classes),
      "colors": [list(color) for color in info.colors],
      "channels": info.channels,
      "reading": info.reading,
      "source_ids": list(info.source_ids),
      "fingerprint": info.fingerprint,
      "more_unlabeled": more and {"name": more.name, "fingerprint": more.fingerprint},
      "splits": {use: ids.describe() for use, ids in lists.items() if ids is not None},
    },
    **nets,
    "fixed": fixed,
    "targets": targets,
  }


def check_same_run(
  saved: dict[str, Any], now: dict[str, Any], workdir: str, free: Collection[str]
) -> None:
  """Raises ConfigError where a workdir was begun with another recipe or other data.

  Args:
    saved: the `meta` of its newest checkpoint.
    now: that of this start.
    workdir: for the message.
    free: keys of the config that may differ.
  """
  before, after = flat(saved["config"]), flat(now["config"])
  changed = [
    f"{key}: {before.get(key)!r} then, {after.get(key)!r} now"
    for key in sorted(before.keys() | after.keys())
    if before.get(key) != after.get(key) and key not in free
  ]
  if saved["dataset"]["fingerprint"] != now["dataset"]["fingerprint"]:
    changed.append(f"the dataset {now['dataset']['name']!r} has other records now")
  then, today = (meta["dataset"].get("more_unlabeled") or {} for meta in (saved, now))
  if then.get("fingerprint") != today.get("fingerprint"):
    changed.append(
      f"data.unlabeled_root: dataset {then.get('name')!r} then, {today.get('name')!r} now, or "
      "other records"
    )
  for use, ids in saved["dataset"]["splits"].items():
    if use != "val" and ids["sha256"] != now["dataset"]["splits"].get(use, {}).get("sha256"):
      changed.append(f"the {use} list has other ids now")
  stored = [(meta.get("targets") or {}).get("fingerprint") for meta in (saved, now)]
  if stored[0] != stored[1]:
    changed.append("data.targets: the stored targets are others now")
  for name, about in now["fixed"].items():
    if about["checksum"] != saved.get("fixed", {}).get(name, about)["checksum"]:
      changed.append(f"the fixed network {name!r} of {about['source']} has other numbers now")
  if changed:
    raise ConfigError(
      f"{workdir} holds another run:\n  " + "\n  ".join(changed) + "\nGive the same config to go "
      "on with it, another --workdir for a new run, or --config.init_from to start from its "
      "networks."
    )


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes `value` on process 0, whole or not at all."""
  if jax.process_index() == 0:
    files.write_text(path, json.dumps(value, indent=2) + "\n")
