"""Trained networks for evaluation and prediction: read from a workdir, run on uint8 windows.

They are rebuilt from the checkpoint's own description, whatever methods there are today.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax import members as nets
from semiseg_jax import sharding, stacks
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.evaluation import bands, described, low_sums, whole_batches
from semiseg_jax.evaluation.bands import Classify
from semiseg_jax.evaluation.canvases import Grid
from semiseg_jax.evaluation.low_sums import Low
from semiseg_jax.evaluation.protocol import networks_of
from semiseg_jax.members import Member
from semiseg_jax.ops.preprocess import normalize
from semiseg_jax.ops.resize import bilinear_matrix, resize_bilinear
from semiseg_jax.ops.views import mean_of_views
from semiseg_jax.workdir.checkpoints import Checkpoints

Tree = Any


@dataclasses.dataclass(frozen=True)
class Trained:
  """The evaluated networks of a run, as read back.

  Attributes:
    config: of the run, with today's defaults for keys it did not have.
    dataset: name, classes, colors, channels, fingerprint, splits.
    step: of the checkpoint.
    members: how to run its N networks.
    params, batch_stats: by stack, leaves [n, ...].
    described: what the checkpoint says of each member: net, copies, model block.
    checksums: of the checkpoint's networks, by stack.
  """

  config: ConfigDict
  dataset: dict[str, Any]
  step: int
  members: tuple[Member, ...]
  params: dict[str, Tree]
  batch_stats: dict[str, Tree]
  described: tuple[dict[str, Any], ...]
  checksums: dict[str, int]

  @property
  def n(self) -> int:
    """The number of networks."""
    return nets.copies(self.members)

  @property
  def names(self) -> str:
    """Backbones and heads, for people."""
    return " and ".join(member.stack.network.name for member in self.members)

  @property
  def mesh(self) -> Mesh:
    """Where they lie."""
    return self.members[0].stack.mesh

  @property
  def labels_pictures(self) -> bool:
    """Whether they say which classes are in a picture, and not where."""
    return labels_pictures(self.members)

  def network(self, k: int) -> tuple[Member, Tree, Tree]:
    """Returns network k: a member of one copy, its parameters and statistics [1, ...]."""
    member = next(m for m in self.members if m.first <= k < m.first + m.stack.n)
    name, local = member.stack.name, k - member.first
    one = dataclasses.replace(member, first=0, stack=dataclasses.replace(member.stack, n=1))
    return one, *stacks.take((self.params[name], self.batch_stats[name]), local)


def load_trained(
  workdir: str | pathlib.Path,
  step: int | str = "last",
  mesh: Mesh | None = None,
  stack: str | None = None,
) -> Trained:
  """Reads the evaluated networks of a workdir.

  Args:
    workdir: of a training run; of one in several stages the last stage is read.
    step: a step number, 'last', or 'best' (highest mIoU on the run's own val list).
    mesh: where to put them; None = all devices.
    stack: which networks, e.g. 'teacher' or 'networks+teacher'; None = as `eval.stack` says.

  Raises:
    CheckpointError: no checkpoint, not that step, or a damaged one.
    ConfigError: no such stack.
  """
  checkpoints = Checkpoints(described.last_stage(workdir), read_only=True)
  mesh = mesh or sharding.make_mesh()
  try:
    number = _choose_step(checkpoints, step)
    meta = checkpoints.meta(number)
    config = described.complete(meta["config"])
    if stack is not None:
      config.eval.stack = stack
    members, about = described.members(meta, config, mesh)
    shapes = {m.stack.name: stacks.shapes(m.stack) for m in members}
    params, stats = checkpoints.restore_model(number, shapes)
  finally:
    checkpoints.close()
  return Trained(config, meta["dataset"], number, members, params, stats, about, _of_networks(meta))


def find_checkpoint(workdir: str | pathlib.Path, step: int | str) -> tuple[int, dict[str, int]]:
  """Returns step and checksums of what `load_trained` would read; CheckpointError as there."""
  checkpoints = Checkpoints(described.last_stage(workdir), read_only=True)
  try:
    number = _choose_step(checkpoints, step)
    return number, _of_networks(checkpoints.meta(number))
  finally:
    checkpoints.close()


def _of_networks(meta: dict[str, Any]) -> dict[str, int]:
  """The checksums of a checkpoint without that of its optimizer."""
  return {name: found for name, found in meta["checksums"].items() if name != "train"}


def _choose_step(checkpoints: Checkpoints, step: int | str) -> int:
  steps = checkpoints.steps()
  if not steps:
    raise CheckpointError(f"{checkpoints.path} holds no finished checkpoint yet.")
  if step == "last":
    return steps[-1]
  if step == "best":
    best = checkpoints.best_step()
    if best is None:
      raise CheckpointError(
        f"No checkpoint in {checkpoints.path} was evaluated: use step 'last' or one of {steps}."
      )
    return best
  if str(step) not in map(str, steps):
    raise CheckpointError(f"{checkpoints.path} has no step {step!r}; there are {steps}.")
  return int(step)


def labels_pictures(members: Sequence[Member]) -> bool:
  """Returns whether networks classify whole pictures."""
  return any(getattr(member.stack.network, "labels_pictures", False) for member in members)


def grid(config: ConfigDict, members: Sequence[Member]) -> Grid:
  """Returns the sizes of pictures that networks know from the crops of their training."""
  strides = [s for m in members for s, _ in m.stack.network.feature_info.values()]
  return Grid(tuple(config.data.crop), math.lcm(*strides))


def make_scores(
  config: ConfigDict,
  members: Sequence[Member],
  network: str,
  scales: Sequence[float] = (1.0,),
  flip: bool = False,
  probabilities: bool = False,
  summed: str = "",
  multiple: int = 0,
  beside: str = "",
) -> "Scores":
  """Returns scores(params, stats, images, valid) -> float32 [B,h,w,K] on one local device.

  The rows are dealt out over the mesh; every process passes the same ones and gets all scores.

  Running batch statistics; logits at window size by the network's own resize rule.  Where the
  network takes multiples of a patch only, pictures are resized to the nearest ones and the logits
  back, with aligned corners (UniMatch V2).  For one network the scores are its logits, for several
  the mean of the networks' softmax probabilities; for several views the mean of theirs.  Those of
  classifiers of pictures, the same everywhere, are sigmoids.

  Args:
    config: of the run (normalization).
    members: how the networks are run; params and stats are given by stack.
    network: an index 0 .. N-1, several such as '0,2', or 'mean' of all.
    scales: of the views; normalized pictures and probabilities are resized with aligned corners, as
      ST++ labels pictures.
    flip: every view is seen mirrored, too.
    probabilities: those of one network, instead of its logits.
    summed: 'logits' or 'probabilities', for whatever networks and views; '' as said above.
    multiple: pictures are resized to the nearest multiples of it and logits back, 0 = they are not.
    beside: what follows the K scores: 'probabilities', the K of the same network or mean, or
      'networks', the N K of all networks; '' for nothing.

  Raises:
    ConfigError: no such network.
  """
  mesh, n = members[0].stack.mesh, nets.copies(members)
  chosen, every = _chosen(members, networks_of(network, n)), _chosen(members, range(n))
  alone = network.isdecimal()
  usual = "logits" if alone and (*scales, flip) == (1.0, False) else "probabilities"
  adds = "probabilities" if probabilities else summed or usual
  squash = jax.nn.sigmoid if labels_pictures(members) else jax.nn.softmax

  def view_of(params: Tree, stats: Tree, view: jax.Array) -> jax.Array:
    size = view.shape[1:3]
    seen = resize_bilinear(view, _nearest(size, multiple), align_corners=True)
    full = lambda some: resize_bilinear(
      _logits(some, params, stats, seen), size, align_corners=True
    )
    found = full(chosen)
    first = found.mean(0) if adds == "logits" else squash(found).mean(0)
    if not beside:
      return first
    if beside == "networks":
      more = list(squash(found if network == "mean" else full(every)))
    else:
      more = [squash(found).mean(0)]
    return jnp.concatenate([first, *more], -1)

  def normalized(images: jax.Array, valid: jax.Array) -> jax.Array:
    return normalize(images, valid, tuple(config.data.mean), tuple(config.data.std))

  def scores(params: Tree, stats: Tree, images: jax.Array, valid: jax.Array) -> jax.Array:
    seen = functools.partial(view_of, params, stats)
    return mean_of_views(seen, normalized(images, valid), scales, flip)

  def low_logits(params: Tree, stats: Tree, images: jax.Array, valid: jax.Array) -> jax.Array:
    (found,) = _outputs(chosen, params, stats, normalized(images, valid))
    return found["images"]["logits"][0]

  matrix = functools.partial(_upsampling, chosen[0][0].stack.network)

  def classified(
    params: Tree,
    stats: Tree,
    images: jax.Array,
    valid: jax.Array,
    kept: jax.Array | None,
    classify: Classify,
    rule: str,
  ) -> tuple[Any, jax.Array]:
    if low and classify is bands.labels:
      logits = low_logits(params, stats, images, valid)
      return low_sums.labels(logits, images.shape[1:3], matrix, kept, rule)
    return whole_batches.classified(scores(params, stats, images, valid), kept, classify, rule)

  is_plain = alone and adds == "logits" and (*scales, flip, multiple, beside) == (1.0, False, 0, "")
  low = is_plain and mesh.devices.flat[0].platform == "cpu"  # elsewhere full products are faster
  compiled = functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
  whole = compiled(classified, static_argnums=(5, 6))
  return Scores(mesh, compiled(scores), compiled(low_logits), whole, matrix if low else None)


@dataclasses.dataclass(frozen=True)
class Scores:
  """What `make_scores` returns.

  Attributes:
    mesh: where it runs.
    full, low: programs of scores, and of logits before their upsampling.
    whole: of what is made of the scores of whole pictures.
    matrix: of `low_sums.Low`, None where that does not apply.
  """

  mesh: Mesh
  full: Callable[..., jax.Array]
  low: Callable[..., jax.Array]
  whole: Callable[..., tuple[Any, jax.Array]]
  matrix: Callable[[int, int], np.ndarray] | None

  def __call__(self, params: Tree, stats: Tree, images: np.ndarray, valid: np.ndarray) -> jax.Array:
    """Scores float32 [B,h,w,K]."""
    return self._run(self.full, params, stats, images, valid)

  def classified(self, params: Tree, stats: Tree, *whole: Any) -> tuple[Any, jax.Array]:
    """See `Forward.classified`."""
    return self._run(self.whole, params, stats, *whole)

  def low_of(self, params: Tree, stats: Tree) -> Low | None:
    """The network of these parameters before its upsampling, where that is worth it."""
    run = functools.partial(self._run, self.low, params, stats)
    return None if self.matrix is None else Low(run, self.matrix)

  def _run(
    self,
    compiled: Callable[..., Any],
    params: Tree,
    stats: Tree,
    images: np.ndarray,
    valid: np.ndarray,
    *how: Any,
  ) -> Any:
    rows = sharding.batch_sharding(self.mesh)
    # Every process holds all windows and places the rows of its own devices.
    placed = (
      jax.make_array_from_callback(x.shape, rows, lambda index, x=x: x[index])
      for x in (images, valid)
    )
    found = compiled(params, stats, *placed, *how)
    return jax.tree.map(lambda x: x.addressable_data(0), found)


@dataclasses.dataclass(frozen=True)
class Forward:
  """A network of given parameters, as `windows.Segmenter` takes it."""

  scores: Scores
  params: Tree
  stats: Tree

  def __call__(self, images: np.ndarray, valid: np.ndarray) -> jax.Array:
    """Scores float32 [B,h,w,K] of images uint8 [B,h,w,C] with valid int32 [B,4]."""
    return self.scores(self.params, self.stats, images, valid)

  def classified(
    self,
    images: np.ndarray,
    valid: np.ndarray,
    kept: np.ndarray | None,
    classify: Classify,
    rule: str,
  ) -> tuple[Any, jax.Array]:
    """As `whole_batches.classified` of these scores, in one program."""
    how = (self.params, self.stats, images, valid, kept, classify, rule)
    return self.scores.classified(*how)

  @property
  def is_alone_on_cpu(self) -> bool:
    """Whether it runs on one CPU, where a batch brings no speed."""
    mesh = self.scores.mesh
    return mesh.size == 1 and mesh.devices.flat[0].platform == "cpu"

  @property
  def low(self) -> Low | None:
    """The network before its upsampling, where that is worth it."""
    return self.scores.low_of(self.params, self.stats)


def _upsampling(network: Any, low: int, side: int) -> np.ndarray:
  """The matrix [side, low] by which a network upsamples along an axis, see `members.full_size`."""
  fitted, _ = network.fitted((side, side))
  matrix = bilinear_matrix(low, fitted, network.align_corners)
  return matrix if fitted == side else bilinear_matrix(fitted, side, True) @ matrix


Chosen = Sequence[tuple[Member, Sequence[int]]]  # members, and which of their copies


def _chosen(members: Sequence[Member], indices: Sequence[int]) -> Chosen:
  return [
    (m, local)
    for m in members
    if (local := [k - m.first for k in indices if m.first <= k < m.first + m.stack.n])
  ]


def _outputs(chosen: Chosen, params: Tree, stats: Tree, x: jax.Array) -> list[Any]:
  """What each member gives for pictures x, as `stacks.apply`."""
  found = []
  for member, local in chosen:
    name, stack = member.stack.name, member.stack
    p, s = params[name], stats[name]
    if len(local) == 1:
      p, s = stacks.take((p, s), local[0])
    elif len(local) < stack.n:
      p, s = jax.tree.map(lambda leaf: leaf[np.array(local)], (p, s))  # noqa: B023
    stack = dataclasses.replace(stack, n=len(local))
    streams = {"images": nets.seen_by(member, x)}
    found.append(stacks.apply(stack, p, s, streams, bn="eval", grad=False)[0])
  return found


def _logits(chosen: Chosen, params: Tree, stats: Tree, x: jax.Array) -> jax.Array:
  """Logits [n,B,h,w,K] of pictures x."""
  size, of = {"images": x.shape[1:3]}, [member for member, _ in chosen]
  return nets.full_size(of, _outputs(chosen, params, stats, x), size)["images"]


def _nearest(size: tuple[int, int], multiple: int) -> tuple[int, int]:
  """Returns the nearest multiples, a half up, at least one; 0: the size itself."""
  if not multiple:
    return size
  return tuple(max(1, (2 * side + multiple) // (2 * multiple)) * multiple for side in size)


def make_forward(trained: Trained, network: str, **views: Any) -> Forward:
  """Returns forward(images uint8 [B,h,w,C], valid int32 [B,4]) -> scores [B,h,w,K].

  `views` are the last arguments of `make_scores`.

  Raises:
    ConfigError: no such network, or networks that classify whole pictures.
  """
  if trained.labels_pictures:
    raise ConfigError(
      f"{trained.names} says which classes are in a picture, not where: it cannot label pixels. "
      "Score it with semiseg_jax.evaluate, or give its workdir to --gate beside the --workdir of a "
      "run that segments."
    )
  scores = make_scores(trained.config, trained.members, network, **views)
  return Forward(scores, trained.params, trained.batch_stats)
