"""By which mean and std pictures are normalized: those of ImageNet, of the data, or given ones."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from semiseg_jax.data import options
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.evaluation import described
from semiseg_jax.members import Member
from semiseg_jax.models import family
from semiseg_jax.workdir.checkpoints import Checkpoints

AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class Chosen:
  """Mean and std of each channel, as shares of 255, and why."""

  mean: tuple[float, ...]
  std: tuple[float, ...]
  reason: str

  def __str__(self) -> str:
    mean, std = (", ".join(f"{value:.3g}" for value in x[:8]) for x in (self.mean, self.std))
    more = ", ..." if len(self.mean) > 8 else ""
    return f"mean {mean}{more}, std {std}{more}: {self.reason}"


def choose(config: ConfigDict, info: DatasetInfo) -> Chosen:
  """What `data.normalization` says for a data set.

  With 'auto', numbers of the config other than the defaults are taken, and else those of the run
  that this one starts from; else the data set's own where no weights are pretrained, or where
  these are of RGB and the pictures are not; else ImageNet's, by which backbones were pretrained.

  Args:
    config: of the run.
    info: of its data set.
  """
  data, measured = config.data, info.statistics
  given = Chosen(tuple(data.mean), tuple(data.std), "as the config says")
  if data.normalization != AUTO:
    return given
  if (given.mean, given.std) != (options.IMAGENET_MEAN, options.IMAGENET_STD):
    return given
  start = _of_start(config.init_from)
  if start is not None:
    return Chosen(tuple(start["mean"]), tuple(start["std"]), "of the run of init_from")
  pretrained = any(model.pretrained for model, _ in family.members(config.model))
  if pretrained and info.channels == len(options.IMAGENET_MEAN):
    return dataclasses.replace(given, reason="ImageNet's, as the backbone is pretrained")
  if measured is None:
    return dataclasses.replace(given, reason="ImageNet's, as the data set has no measured ones")
  why = "from scratch" if not pretrained else f"pretrained weights are for RGB, not {info.channels}"
  return Chosen(
    info.mean,
    info.std,
    f"measured over {measured['pictures']} training pictures ({why})",
  )


def _of_start(workdir: str) -> ConfigDict | None:
  """The block `data` of the run to start from; None without one that can be read."""
  if not workdir or not (described.last_stage(workdir) / "checkpoints").is_dir():
    return None  # a run that goes on does not need it any more; one that begins will say so
  checkpoints = Checkpoints(described.last_stage(workdir), read_only=True)
  try:
    steps = checkpoints.steps()
    return described.complete(checkpoints.meta(steps[-1])["config"]).data if steps else None
  finally:
    checkpoints.close()


def put(config: ConfigDict, chosen: Chosen) -> ConfigDict:
  """A copy of the config with the mean and std that are used, which checkpoints keep."""
  config = config.copy_and_resolve_references()
  config.data.mean, config.data.std = chosen.mean, chosen.std
  return config


def seen_by(member: Member, here: ConfigDict, there: ConfigDict) -> Member:
  """How a network of another run is run here: it sees what its own normalization gave it.

  Args:
    member: as it was run there.
    here: the block `data` of this run.
    there: of the other one.
  """
  mean, std, own_mean, own_std = (
    np.asarray(x, np.float64) for x in (here.mean, here.std, there.mean, there.std)
  )
  if mean.shape != own_mean.shape:  # of other channels, which is said elsewhere
    return member
  if (mean == own_mean).all() and (std == own_std).all():
    return member
  scale = np.asarray(member.scale or 1.0)
  shift = np.asarray(member.shift or 0.0) + scale * (mean - own_mean) / own_std
  return dataclasses.replace(
    member, shift=tuple(shift.tolist()), scale=tuple((scale * std / own_std).tolist())
  )
