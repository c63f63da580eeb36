"""Passes over pictures: scores of all, and the suspicious regions of labeled ones.

Of a picture that was scored its measures and its feature are kept, so 100,000 pictures need less
than a gigabyte.
"""

from collections.abc import Iterator

import numpy as np

from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.progress import Progress, track
from semiseg_jax.suggesting import centers, measures, networks
from semiseg_jax.suggesting.networks import Networks
from semiseg_jax.suggesting.ranking import Scores
from semiseg_jax.suggesting.sources import Seen, Source, results
from semiseg_jax.suggesting.suspects import Belief, Judge, Region
from semiseg_jax.suggesting.tables import picture_score


def score(source: Source, labeled: Source | None, run: Networks) -> Scores:
  """Returns the scores of the pictures of a source, but for those that cannot be read.

  Args:
    source: the pictures.
    labeled: those that are labeled; None: there are none at hand.
    run: its networks.
  """
  ids: list[str] = []
  values: list[np.ndarray] = []
  for seen, result in _shown(source, run.doubt, "score"):
    ids.append(seen.id)
    values.append(measures.of_picture(networks.doubt_maps(result), seen.valid))
    run.features.add(seen.image)
  found = centers.unit(run.features.finish())
  if labeled:
    for seen in track(labeled.read(labeled.ids), total=len(labeled.ids), title="labeled"):
      run.features.add(seen.image)
  near = centers.nearest(found, centers.unit(run.features.finish()))
  table = np.array(values).reshape(-1, len(measures.MEASURES))
  return Scores(tuple(ids), table, found, near, run.n)


def suspects(labeled: Source, run: Networks) -> tuple[Judge, dict[str, list[Region]]]:
  """Returns what judges labels, and the suspicious regions by the ids of their pictures.

  Pictures come by the sum of their regions' scores, the highest first; those without any are left
  out.  All are segmented twice: thresholds of the classes come first.

  Args:
    labeled: pictures with labels.
    run: its networks.
  """
  belief = Belief(len(run.classes))
  for seen, (_, p) in _shown(labeled, run.certain, "labels"):
    belief.add(seen.label, p, seen.valid)
  judge, found = Judge(belief), {}
  for seen, (_, p) in _shown(labeled, run.certain, "suspicious labels"):
    regions = judge.regions(seen.label, p, seen.valid)
    if regions:
      found[seen.id] = regions
  ranked = sorted(found.items(), key=lambda item: -picture_score(item[1]))
  return judge, dict(ranked)


def _shown(source: Source, segmenter: Segmenter, title: str) -> Iterator[tuple[Seen, tuple]]:
  with Progress(len(source.ids), title=title) as progress:
    for pair in results(segmenter, source, source.ids):
      yield pair
      progress.advance()
