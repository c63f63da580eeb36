"""Trained networks as a description and weights: what rebuilds them without their run."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from semiseg_jax import stacks
from semiseg_jax.errors import WeightsError
from semiseg_jax.evaluation import described
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.exporting.functions import KINDS
from semiseg_jax.members import Member

_NET = "networks"
_SHOWN = 3  # names that a message lists


def describe(trained: Trained, networks: list[int]) -> dict[str, Any]:
  """Returns plain JSON values from which `rebuild` makes the chosen networks, in this order."""
  members = []
  for k in networks:
    whole = zip(trained.members, trained.described)
    of = next(d for m, d in whole if m.first <= k < m.first + m.stack.n)
    if members and members[-1]["stack"] == of["stack"]:
      members[-1]["copies"] += 1
    else:
      members.append({**of, "copies": 1})
  config = json.loads(trained.config.to_json_best_effort())
  config["eval"]["stack"] = ""
  if len(networks) == 1:
    config["eval"]["network"] = "0"
  return {
    "step": trained.step,
    "dataset": trained.dataset,
    "config": config,
    "nets": {_NET: members},
    "evaluated": [_NET],
    "checksums": trained.checksums,
  }


def rebuild(about: Mapping[str, Any], weights: Mapping[str, np.ndarray], mesh: Mesh) -> Trained:
  """Returns the networks.

  Args:
    about: see `describe`.
    weights: see `functions`.
    mesh: where to put them.

  Raises:
    CheckpointError: this version does not know the networks.
    WeightsError: the weights are not theirs.
  """
  config = described.complete(about["config"])
  members, says = described.members(dict(about), config, mesh)
  params, stats, names = {}, {}, set()
  for member in members:
    for place, kind, shapes in zip((params, stats), KINDS, stacks.shapes(member.stack)):
      place[member.stack.name] = _filled(member, kind, shapes, weights, names)
  extra = sorted(weights.keys() - names)
  if extra:
    raise WeightsError(f"no network here has {', '.join(extra[:_SHOWN])}.")
  return Trained(
    config, about["dataset"], about["step"], members, params, stats, says, about["checksums"]
  )


def members(about: Mapping[str, Any], mesh: Mesh) -> tuple[Member, ...]:
  """Returns how the networks of a description are run."""
  return described.members(dict(about), described.complete(about["config"]), mesh)[0]


def _filled(
  member: Member, kind: str, shapes: Any, weights: Mapping[str, np.ndarray], names: set[str]
) -> Any:
  """The tree of a member, leaves [n,...]; the names that it took are added to `names`."""

  def leaf(path: tuple[str, ...], shape: Any) -> Any:
    if not isinstance(shape, jax.ShapeDtypeStruct):  # a part without parameters or statistics
      return shape
    keys = [f"{member.first + i}/{kind}/{'/'.join(path)}" for i in range(member.stack.n)]
    for key in keys:
      found = weights.get(key)
      if found is None or (found.shape, found.dtype) != (shape.shape[1:], shape.dtype):
        says = "is absent" if found is None else f"is {found.dtype} {list(found.shape)}"
        raise WeightsError(f"{key} {says}; it should be {shape.dtype} {list(shape.shape[1:])}.")
    names.update(keys)
    return jax.device_put(np.stack([weights[key] for key in keys]), shape.sharding)

  flat = traverse_util.flatten_dict(shapes, keep_empty_nodes=True)
  return traverse_util.unflatten_dict({path: leaf(path, shape) for path, shape in flat.items()})
