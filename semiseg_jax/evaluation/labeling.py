"""Pseudo labels of unlabeled pictures from the networks of a run, stored with their confidence."""

import json
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils

from semiseg_jax.data import opening, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.targets import METADATA, Targets
from semiseg_jax.data.writing.targets_writer import TargetsWriter
from semiseg_jax.evaluation import inference, protocol
from semiseg_jax.evaluation.run import read_ahead
from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.progress import track

FOLDER = "targets"


def store_labels(config: Any, stage: str, workdir: str) -> None:
  """Writes WORKDIR/targets: labels and confidence of the unlabeled pictures, whole or not at all.

  A folder that is whole already is left alone.

  Args:
    config: of the run that labels; its `data` block names the pictures, its `eval` block how they
      are cut into windows.
    stage: its work directory.
    workdir: where the labels are written.

  Raises:
    DataError: labels that are there and are damaged, or were made for other pictures.
  """
  dataset = opening.open_dataset(config.data)
  pool = opening.open_pool(config.data, dataset)
  ids = splits.make_split(
    pool, config.data.labeled, config.data.unlabeled, config.data.train
  ).unlabeled.ids
  folder = pathlib.Path(workdir) / FOLDER
  how = protocol.from_config(config.eval, network="mean")
  if (folder / METADATA).exists():
    stored = Targets.open(folder)
    stored.check(pool, ids)
    if stored.info.about.get("protocol") != json.loads(json.dumps(how.as_dict())):
      print(f"NOTE {folder} was made with other keys of `eval` than today's, and is used as it is.")
    return
  trained = inference.load_trained(stage)
  segmenter = how.segmenter(
    inference.make_forward(trained, how.network),
    len(trained.dataset["classes"]),
    devices=trained.mesh.size,
    confidence=True,
  )
  about = {"run": config.name, "step": trained.step, "protocol": how.as_dict()}
  if jax.process_index() == 0:
    with TargetsWriter(folder, dataset=pool, about=about) as writer:
      for id_, (label, confidence) in labels_of(segmenter, pool, ids):
        writer.add(id_, label=label, confidence=confidence)
  else:
    for _ in labels_of(segmenter, pool, ids):
      pass
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("labels stored")


def labels_of(segmenter: Segmenter, pool: Dataset | JoinedDataset, ids: tuple[str, ...]) -> Any:
  """Yields (id, (label uint8 [H,W], confidence uint8 [H,W])) of each picture, in order."""
  images = (example.image for example in read_ahead(pool.read, map(pool.index, ids)))
  found = track(segmenter.segment_many(images), total=len(ids), title="label")
  return zip(ids, found)
