"""A run before anything is computed: mesh, pictures, method, optimizer; and its batches."""

import dataclasses
import functools

import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax import sharding
from semiseg_jax.data import opening, pipeline, splits
from semiseg_jax.data.augment import families
from semiseg_jax.data.augment.rare import Rare
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.targets import CONFIDENCE, LABEL, Targets
from semiseg_jax.methods import contract
from semiseg_jax.methods.contract import Stream
from semiseg_jax.methods.method import Method
from semiseg_jax.training import class_counts, experiment, normalization, shown_classes
from semiseg_jax.training.feed import InParts, Prefetch


@dataclasses.dataclass(frozen=True)
class Run:
  """What a config stands for.

  Attributes:
    config: of the run, with the mean and std that are used.
    mesh: of all devices.
    dataset: the pictures that are evaluated.
    pool: the pictures of training: the same, or joined with a second dataset of unlabeled ones.
    method: on its networks.
    split: the lists of the sources.
    val: the list that is evaluated.
    targets: stored targets of unlabeled pictures.
    optimizer: of the trained networks.
    normalization: the mean and std of `config`, and why these.
  """

  config: ConfigDict
  mesh: Mesh
  dataset: Dataset
  pool: Dataset | JoinedDataset
  method: Method
  split: splits.Split
  val: splits.IdList | None
  targets: Targets | None
  optimizer: optax.GradientTransformation
  normalization: normalization.Chosen


def build(config: ConfigDict) -> Run:
  """Builds what `config` describes.

  Raises:
    UserError: what the config names cannot be had, or does not fit together.
  """
  mesh = sharding.make_mesh(config.runtime.replica)
  dataset = opening.open_dataset(config.data)
  pool = opening.open_pool(config.data, dataset)
  info = dataset.info
  chosen = normalization.choose(config, info)
  config = normalization.put(config, chosen)
  method = experiment.make_method(config, mesh, classes=len(info.classes), channels=info.channels)
  targets = Targets.open(config.data.targets) if _learns_from_targets(method) else None
  sources = {stream.source for stream in method.streams}
  split, val = lists(config, pool, dataset, sources, targets)
  _check_targets(targets, method, pool, split)
  weights = class_counts.weights(config, pool, split.labeled.ids, info.classes)
  method = dataclasses.replace(method, class_weights=weights)
  optimizer = experiment.make_optimizer(config, method)
  return Run(config, mesh, dataset, pool, method, split, val, targets, optimizer, chosen)


def _learns_from_targets(method: Method) -> bool:
  return any(stream.targets for stream in method.streams)


def _check_targets(
  targets: Targets | None, method: Method, pool: Dataset | JoinedDataset, split: splits.Split
) -> None:
  for stream in method.streams:
    if stream.targets:
      targets.check(pool, split.ids(stream.source), (LABEL, CONFIDENCE))


def lists(
  config: ConfigDict,
  pool: Dataset | JoinedDataset,
  dataset: Dataset,
  sources: set[str],
  targets: Targets | None = None,
) -> tuple[splits.Split, splits.IdList | None]:
  """Returns the lists that training and evaluation read.

  Args:
    config: of the run.
    pool: the pictures of training.
    dataset: those that are evaluated.
    sources: names of the sources that are read.
    targets: stored targets, which 'stored' speaks of.

  Raises:
    DataError: a list that cannot be used or has no labeled pixel, or training pictures that are
      evaluated.
  """
  split = splits.make_split(
    pool,
    labeled=config.data.labeled,
    unlabeled=config.data.unlabeled if "unlabeled" in sources else None,
    train=config.data.train,
    sources=config.data.sources,
    stored=targets and targets.info.ids,
  )
  labeled = shown_classes.check_labeled(dataset, split.labeled)
  split = dataclasses.replace(split, labeled=labeled)
  if not config.data.val:
    return split, None
  val = splits.resolve(dataset, config.data.val)
  splits.check_held_out(split, val)
  return split, shown_classes.check_evaluated(dataset, val)


def check_lists(config: ConfigDict) -> None:
  """Raises DataError where a list that any stage of the method reads cannot be used."""
  dataset = opening.open_dataset(config.data)
  lists(config, opening.open_pool(config.data, dataset), dataset, contract.sources(config))


def device_batches(run: Run, start: int) -> Prefetch:
  """The batches from step `start` on, placed on the devices two steps ahead."""
  config, parts = run.config, run.config.train.accumulate
  source = pipeline.make_batches(
    run.pool,
    [dataclasses.replace(spec, batch=spec.batch // parts) for spec in _stream_specs(run)],
    seed=config.seed,
    start_step=start * parts,  # the rows of a batch are those of its parts, in order
    rows=functools.partial(sharding.process_rows, run.mesh),
    workers=config.data.workers,
  )
  put = functools.partial(sharding.put_batch, run.mesh, parts=parts)
  return Prefetch(InParts(source, parts), put)


def _stream_specs(run: Run) -> list[pipeline.StreamSpec]:
  return [
    pipeline.StreamSpec(
      name=stream.name,
      ids=run.split.ids(stream.source),
      batch=stream.batch,
      shuffle_seed_name=stream.order,
      augment=families.make_augment(run.config, stream.view, _rare(run, stream)),
      targets=run.targets if stream.targets else None,
    )
    for stream in run.method.streams
  ]


def _rare(run: Run, stream: Stream) -> Rare | None:
  """Which classes the crops of a stream are laid around; the labels of others are not known."""
  data, classes = run.config.data, run.dataset.info.classes
  if not data.rare_crop or stream.source != "labeled" or stream.targets:
    return None
  return Rare(data.rare_crop, tuple(classes.index(name) for name in data.rare_classes))
