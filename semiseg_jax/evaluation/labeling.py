"""Pseudo labels of unlabeled pictures from the networks of a run, stored with their confidence.

What a stage of a method calls writes whole folders of targets or nothing, and leaves alone what is
there already.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from semiseg_jax.data import opening, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.targets import (
  CONFIDENCE,
  LABEL,
  METADATA,
  TARGET,
  TOP_CLASSES,
  TOP_PROBABILITIES,
  Targets,
  soft_fields,
)
from semiseg_jax.data.writing.targets_writer import TargetsWriter
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation import (
  inference,
  kept_labels,
  mapping,
  protocol,
  reliability,
  told_protocol,
)
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.kept_labels import Rule
from semiseg_jax.evaluation.maps import Maps, Wanted
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.run import read_ahead, sizes_of
from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.progress import track

FOLDER = "targets"
RELIABLE = "targets_reliable"
Pool = Dataset | JoinedDataset


@dataclasses.dataclass(frozen=True)
class Labeler:
  """Which networks of a stage label, and how they see a picture.

  Attributes:
    step: of the checkpoint, or the rule 'last' or 'best'.
    scales, flip: see `inference.make_scores`.
  """

  step: int | str = "last"
  scales: tuple[float, ...] = (1.0,)
  flip: bool = False


LAST = Labeler()


def store_labels(config: Any, stage: str, workdir: str, labeler: Labeler = LAST) -> None:
  """Writes WORKDIR/targets: labels and confidence of the unlabeled pictures.

  Args:
    config: of the run that labels; its `data` block names the pictures, its `eval` block how they
      are cut into windows.
    stage: its work directory.
    workdir: where the labels are written.
    labeler: see Labeler.

  Raises:
    DataError: labels that are there and are damaged, or were made for other pictures, or in
      another way.
  """
  pool, ids = _unlabeled(config, config.data.unlabeled)
  _store(config, stage, pathlib.Path(workdir) / FOLDER, pool, ids, labeler)


def store_reliable(
  config: Any,
  stage: str,
  workdir: str,
  labeler: Labeler,
  *,
  checkpoints: int,
  share: float,
) -> None:
  """Writes WORKDIR/reliability.json and WORKDIR/targets_reliable, as ST++ begins.

  Args:
    config, stage, workdir, labeler: as in `store_labels`.
    checkpoints: K, of the stage, equally spaced: their agreement ranks the pictures.
    share: of the pictures, the most reliable ones, that are labeled.

  Raises:
    DataError: as in `store_labels`, or labels of another choice of pictures.
    CheckpointError: one of the K is not there, or is damaged.
  """
  pool, ids = _unlabeled(config, config.data.unlabeled)
  how = protocol.to_label(config.eval, network="mean", summed="probabilities")
  scores = reliability.of_pictures(config, stage, workdir, how, pool, ids, checkpoints)
  chosen = reliability.most_reliable(scores, share)
  if jax.process_index() == 0:
    every, best = (np.mean([scores[id_] for id_ in some]) for some in (ids, chosen))
    print(f"Reliability {every:.3f} on average, {best:.3f} of the {len(chosen)} best pictures.")
  folder = pathlib.Path(workdir) / RELIABLE
  _store(config, stage, folder, pool, chosen, labeler)
  if Targets.open(folder).info.ids != chosen:
    raise DataError(
      f"{folder} holds the labels of another choice of reliable pictures: give the same config to "
      "go on with them, or another --workdir"
    )


def store_rest(
  config: Any, stage: str, workdir: str, labeler: Labeler, *, unlabeled: str, relabel: bool
) -> None:
  """Writes WORKDIR/targets of all unlabeled pictures, as ST++ goes on.

  Args:
    config, stage, workdir, labeler: as in `store_labels`.
    unlabeled: `data.unlabeled` of the whole run; the stage has learned from a part of it.
    relabel: whether the reliable pictures are labeled anew; otherwise they keep their labels.

  Raises:
    DataError: as in `store_labels`.
  """
  pool, ids = _unlabeled(config, unlabeled)
  kept = None if relabel else Targets.open(pathlib.Path(workdir) / RELIABLE)
  _store(config, stage, pathlib.Path(workdir) / FOLDER, pool, ids, labeler, kept)


def write_labels(
  folder: pathlib.Path,
  trained: Trained,
  how: Protocol,
  pool: Pool,
  ids: Sequence[str],
  *,
  name: str,
  rule: int | str,
  kept: Targets | None = None,
  keep: Rule = kept_labels.ALL,
  top: int = 0,
  overwrite: bool = False,
) -> None:
  """Writes targets of pictures, whole or not at all.

  Args:
    folder: where they will be.
    trained: the networks.
    how: they label.
    pool: holds the pictures.
    ids: of the pictures.
    name: of the run, for the origin of the labels.
    rule: how the checkpoint was chosen, for their origin too: its step, 'last' or 'best'.
    kept: targets of which those of `ids` that they hold are taken over.
    keep: which pixels keep their label.
    top: soft labels of so many classes are stored, too.
    overwrite: replace finished targets at `folder`.

  Raises:
    DataError: a place that cannot be written to, or where something is.
  """
  classes = len(trained.dataset["classes"])
  wanted = Wanted(confidence=True, doubt=keep.share > 0, top=top)
  segmenter = mapping.segmenter(trained, how, wanted, probabilities=True)
  there = frozenset(kept.info.ids if kept else ())
  taken = [id_ for id_ in ids if id_ in there]
  labels = labels_of(segmenter, pool, tuple(id_ for id_ in ids if id_ not in there))
  about = origin(trained, how, name=name, rule=rule) | keep.as_dict()
  if kept:
    about["kept"] = {"pictures": len(taken), **kept.info.about}
  if jax.process_index() == 0:
    fields = soft_fields(top)
    with TargetsWriter(
      folder, dataset=pool, about=about, fields=fields, overwrite=overwrite
    ) as writer:
      for id_ in taken:
        writer.add(id_, **_values(kept, id_))
      found = ((id_, values_of(maps)) for id_, maps in labels)
      for id_, values in kept_labels.kept(found, keep, classes, folder.parent):
        writer.add(id_, **values)
  else:
    for _ in labels:
      pass
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("labels stored")


def origin(trained: Trained, how: Protocol, *, name: str, rule: int | str) -> dict[str, Any]:
  """Who made labels, as stored targets keep it; see `write_labels`."""
  return {
    "run": name,
    "step": trained.step,
    "rule": rule,
    "checksums": trained.checksums,
    "protocol": how.as_dict(),
  }


def values_of(maps: Maps) -> dict[str, np.ndarray]:
  """Labels, confidence and, where they were made, soft labels, by the names of fields."""
  names = {LABEL: maps.labels, CONFIDENCE: maps.confidence}
  soft = {TOP_CLASSES: maps.top_classes, TOP_PROBABILITIES: maps.top_probabilities}
  more = soft | {kept_labels.DOUBT: maps.doubt}
  return names | {name: values for name, values in more.items() if values is not None}


def labels_of(segmenter: Segmenter, pool: Pool, ids: Sequence[str]) -> Iterator[tuple[str, Maps]]:
  """Yields (id, maps) of each picture, in order."""
  indices = [pool.index(id_) for id_ in ids]
  sizes = sizes_of(pool, indices)
  images = map(lambda example: example.image, read_ahead(pool.read, indices, sizes))
  found = segmenter.segment_many(images, sizes)
  return zip(ids, track(found, total=len(ids), title="label"), strict=True)


def _store(
  config: Any,
  stage: str,
  folder: pathlib.Path,
  pool: Pool,
  ids: tuple[str, ...],
  labeler: Labeler,
  kept: Targets | None = None,
) -> None:
  """A folder that is whole already is left alone; DataError where it was made in another way."""
  views = {"scales": labeler.scales, "flip": labeler.flip, "summed": "probabilities"}
  how = protocol.to_label(config.eval, network="mean", **views)
  if (folder / METADATA).exists():
    stored = Targets.open(folder)
    stored.check(pool, ids)
    _check_origin(stored, how, stage, labeler.step, kept)
    return
  trained = inference.load_trained(stage, labeler.step)
  write_labels(folder, trained, how, pool, ids, name=config.name, rule=labeler.step, kept=kept)


def _check_origin(
  stored: Targets, how: Protocol, stage: str, rule: int | str, kept: Targets | None
) -> None:
  """Raises DataError where labels were made in another way than they would be made now.

  What labels of earlier versions do not tell had its default; for a rule that they do not tell the
  checkpoint that it chooses is compared.
  """
  about = stored.info.about
  then = _origin(about.get("protocol", {}), about.get("rule"), "kept" not in about)
  now = _origin(how.as_dict(), rule, kept is None)
  if "rule" not in about:
    then["checkpoint"] = about.get("step")
    now["checkpoint"], _ = inference.find_checkpoint(stage, rule)
  elif "checksums" in about and about["rule"] == rule:
    then["checksums"] = about["checksums"]
    _, now["checksums"] = inference.find_checkpoint(stage, rule)
  changed = [
    f"{name}: {then.get(name)!r} then, {value!r} now"
    for name, value in now.items()
    if then.get(name) != value
  ]
  if changed:
    raise DataError(
      f"{stored.root} holds labels that were made in another way:\n  "
      + "\n  ".join(changed)
      + "\nSet the keys back to go on with them; or delete this folder, and those of the stages "
      "that learned from it, to make it anew."
    )


def _origin(protocol: dict[str, Any], rule: int | str | None, relabel: bool) -> dict[str, Any]:
  """How labels are made, under the names of keys, plain JSON values."""
  views, made = ("scales", "flip"), told_protocol.completed(protocol)
  named = {name if name in views else f"eval.{name}": value for name, value in made.items()}
  return json.loads(json.dumps({**named, "checkpoint": rule, "relabel": relabel}))


def _unlabeled(config: Any, unlabeled: str) -> tuple[Pool, tuple[str, ...]]:
  """Where the pictures are, and the ids of the unlabeled ones."""
  pool = opening.open_pool(config.data, opening.open_dataset(config.data))
  split = splits.make_split(pool, config.data.labeled, unlabeled, config.data.train)
  return pool, split.unlabeled.ids


def _values(targets: Targets, id_: str) -> dict[str, np.ndarray]:
  """Label and confidence of a whole picture, as `TargetsWriter.add` takes them."""
  record = targets.record(id_)
  maps = record.window(0, 0, *record.size)
  return {LABEL: maps[TARGET].values, CONFIDENCE: maps[CONFIDENCE].values}
