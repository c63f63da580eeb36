"""The train state: all that a step changes."""

import dataclasses
from typing import Any

import jax

Tree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
  """Everything that a step reads, and all but `fixed` it changes.

  Attributes:
    step: int32 scalar, the number of updates done.
    params: stack name -> stacked parameters.
    stats: stack name -> stacked batch statistics.
    memory: part of the method -> what it keeps beside.
    opt_state: of optax, over the trained stacks.
    fixed: stack name -> (parameters, batch statistics) of fixed nets; in no checkpoint.
  """

  step: jax.Array
  params: dict[str, Tree]
  stats: dict[str, Tree]
  memory: dict[str, Tree]
  opt_state: Tree
  fixed: dict[str, tuple[Tree, Tree]] = dataclasses.field(default_factory=dict)
