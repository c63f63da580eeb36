"""The train state: all that a step changes."""

import dataclasses
from typing import Any

import jax

Tree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
  """Everything that a step changes.

  step: int32 scalar, the number of updates done.
  params: dict stack name -> stacked parameters.
  state: dict: 'batch_stats' (stack name -> stacked statistics) and what the method keeps beside.
  opt_state: of optax, over the trained stacks.
  """

  step: jax.Array
  params: dict[str, Tree]
  state: dict[str, Tree]
  opt_state: Tree
