"""Which pictures a network labels well: its earlier checkpoints agree with its last on them.

    s_i = 1 / (K - 1) sum_{j < K} mIoU(M_ij, M_iK)        M_ij: labels of picture i by checkpoint j

Source: ST++ (Yang et al., CVPR 2022, arXiv 2106.05095), equation 4.
"""

import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from semiseg_jax import files, seals
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.evaluation import inference, told_protocol
from semiseg_jax.evaluation.confusion import count_picture, scores
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.run import read_ahead, sizes_of
from semiseg_jax.progress import track
from semiseg_jax.workdir import checkpoints

FILE = "reliability.json"
Pool = Dataset | JoinedDataset


def agreement(labels: Sequence[np.ndarray], classes: int) -> float:
  """Returns s of one picture, from 0 to 1.

  Classes that neither of two maps has are left out of their mean.

  Args:
    labels: M_1 .. M_K, uint8 [H,W], in the order of the training.
    classes: C.
  """
  *earlier, last = labels
  each = [scores(count_picture(last, M, classes))["miou"] for M in earlier]
  return float(np.mean(each))


def most_reliable(found: Mapping[str, float], share: float) -> tuple[str, ...]:
  """Returns the ids of the floor(share U) highest s, one at least, in the order of `found`.

  Of equal ones the first in that order.

  Args:
    found: id -> s, of U pictures.
    share: of them.
  """
  ids, s = list(found), np.array(list(found.values()))
  first = np.argsort(-s, kind="stable")[: max(int(share * len(ids)), 1)]
  return tuple(ids[i] for i in sorted(first))


def of_pictures(
  config: Any,
  stage: str,
  workdir: str,
  how: Protocol,
  pool: Pool,
  ids: Sequence[str],
  count: int,
) -> dict[str, float]:
  """Returns id -> s, in the order of `ids`, and keeps it in WORKDIR/reliability.json.

  What stands there is read, unless it is of other pictures or checkpoints.

  Args:
    config: of the run whose checkpoints label.
    stage: its work directory.
    workdir: where the file lies.
    how: they label.
    pool: holds the pictures.
    ids: of the pictures.
    count: K, the number of checkpoints, equally spaced.

  Raises:
    CheckpointError: a checkpoint is not there, or is damaged.
  """
  steps = checkpoints.spaced_steps(config.train.steps, count)
  file = pathlib.Path(workdir) / FILE
  sums = [inference.find_checkpoint(stage, step)[1] for step in steps]
  about = {"steps": steps, "checksums": sums, "protocol": told_protocol.completed(how.as_dict())}
  about = json.loads(json.dumps(about))
  known = _known(file)
  if about.items() <= known.items() and list(known.get("reliability", ())) == list(ids):
    return known["reliability"]
  labels = track(_labels(stage, steps, how, pool, ids), total=len(ids), title="rank")
  classes = len(pool.info.classes)
  found = {id_: agreement(maps, classes) for id_, maps in zip(ids, labels, strict=True)}
  if jax.process_index() == 0:
    kept = seals.sealed({**about, "reliability": found, "versions": checkpoints.versions()})
    files.write_text(file, json.dumps(kept, indent=1) + "\n")
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("reliability stored")
  return found


def _known(file: pathlib.Path) -> dict[str, Any]:
  """What an earlier start found; a damaged file counts as none, and is written anew."""
  try:
    known = json.loads(file.read_bytes())
  except (FileNotFoundError, ValueError, RecursionError):
    return {}
  if not isinstance(known, dict) or seals.problem(known):
    return {}
  return {**known, "protocol": told_protocol.completed(known.get("protocol", {}))}


def _labels(
  stage: str, steps: Sequence[int], how: Protocol, pool: Pool, ids: Sequence[str]
) -> Iterator[tuple[np.ndarray, ...]]:
  """Yields the labels [H,W] of a picture by each checkpoint."""
  indices = [pool.index(id_) for id_ in ids]
  images = (example.image for example in read_ahead(pool.read, indices))
  networks = [inference.load_trained(stage, step) for step in steps]
  first = networks[0]
  # Compiled once for all.
  run = inference.make_scores(first.config, first.members, how.network, **how.views())
  found = []
  for trained, seen in zip(networks, itertools.tee(images, len(networks))):
    forward = lambda x, valid, t=trained: run(t.params, t.batch_stats, x, valid)
    segmenter = how.segmenter(
      forward,
      len(first.dataset["classes"]),
      grid=inference.grid(first.config, first.members),
      devices=first.mesh.size,
    )
    found.append(segmenter.segment_many(seen, sizes_of(pool, indices)))
  return zip(*found, strict=True)
