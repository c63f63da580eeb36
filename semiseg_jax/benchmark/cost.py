"""What a network costs, read off its traced program: arithmetic, and memory for the gradient.

Nothing is compiled.  Arithmetic counts convolutions and matrix products: every tap of a kernel,
also on padding, which XLA's own count leaves out.  Products with a constant matrix (resizing,
pooling into cells) are counted apart, because published figures do not contain them.

Kept memory counts the arrays that the backward pass reads (`jax.vjp`, own batch statistics), so
rematerialization shows.  XLA keeps fewer arrays than autodiff asks for; three rules stand for that:

* Elementwise results of a kept array cost nothing: a centered map, a ReLU's mask, a cast.
* Any other result costs its own size or that of its inputs, whichever is smaller.
* Inputs of convolutions, products and pools cost their size.

Not contained: pictures, parameters and their casts, dropout masks, the loss, full-size logits.
Attention counts its weights, which cuDNN's attention does not keep.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from semiseg_jax.benchmark.program import PARAMETER, PICTURE, PRODUCTS, Array, Operation, Program
from semiseg_jax.models.network import Network

BATCH = 2  # pooled branches have one value per picture, and one value has no variance
OTHER = "other"  # what runs in a part outside of its children
_POOLS = ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum")
_ELEMENTWISE = frozenset(
  """abs add add_any and broadcast_in_dim ceil clamp convert_element_type copy cos div eq erf erfc
  exp exp2 expand_dims expm1 floor ge gt integer_pow is_finite le log log1p logistic lt max min mul
  name ne neg not or pow reduce_precision rem reshape round rsqrt select_n sign sin sqrt square
  squeeze stop_gradient sub tan tanh xor""".split()
)


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of a network or a part of it; all but `params` per picture.

  Attributes:
    params: numbers.
    flops: of convolutions and products of the forward pass, 2 per multiply-add.
    resize_flops: of products with a constant matrix.
    kept: bytes that the backward pass reads.
  """

  params: int = 0
  flops: float = 0.0
  resize_flops: float = 0.0
  kept: float = 0.0

  def __add__(self, other: "Cost") -> "Cost":
    return Cost(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))


def stages(network: Network, size: tuple[int, int]) -> dict[str, Cost]:
  """Returns the cost of every stage ('encoder/stem', 'decoder/aspp', ...), in the order they run.

  A stage is the children of a part that differ in their last number only.

  Args:
    network: with the compute dtype and the rematerialization that its config asks for.
    size: (height, width) of the pictures.
  """
  (program, asked), places = _traced(network, size), _Places(network)
  costs = [
    (places.stage(operation), cost)
    for operation, cost in [*_products(program), *_kept(program, asked)]
  ]
  of_stage = {}
  for stage, cost in [*costs, *places.parameters()]:
    of_stage[stage] = of_stage.get(stage, Cost()) + cost
  parts = list(network.parts)
  return dict(sorted(of_stage.items(), key=lambda item: parts.index(item[0].partition("/")[0])))


def total(costs: dict[str, Cost]) -> Cost:
  """Returns the sum."""
  return sum(costs.values(), Cost())


def recomputed_flops(network: Network, size: tuple[int, int]) -> float:
  """Returns FLOPs per picture, resizing aside, of products that the backward pass runs again."""
  if not network.remat:
    return 0.0
  forward, inputs, depends = _forward(network, size)

  def gradient(params: Any, stats: Any, images: jax.Array) -> Any:
    outputs, pull = jax.vjp(lambda p: forward(p, stats, images), params)
    return pull(outputs)

  program = Program(jax.make_jaxpr(gradient)(*inputs).jaxpr, depends)
  again = (cost for o, cost in _products(program) if "rematted_computation" in o.scopes)
  return sum(cost.flops for cost in again)


def _forward(network: Network, size: tuple[int, int]) -> tuple[Any, tuple, list[int]]:
  """Returns the function (params, batch_stats, images) -> outputs, its arguments, what they are."""

  def forward(params: Any, stats: Any, images: jax.Array) -> dict[str, jax.Array]:
    mode = network.mode("train", (BATCH,))
    with nn.intercept_methods(_depthwise_as_convolution):
      features, stats = network.encode(params, stats, images, mode)
      return network.decode(params, stats, features, mode)[0]

  params, stats = network.shapes()
  images = jax.ShapeDtypeStruct((BATCH, *size, network.in_channels), jnp.float32)
  variables = len(jax.tree.leaves((params, stats)))
  return forward, (params, stats, images), [PARAMETER] * variables + [PICTURE]


def _depthwise_as_convolution(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
  # On CPU these are sums of shifted maps, elsewhere what is counted.
  if context.method_name != "_depthwise_by_shifts":
    return call(*args, **kwargs)
  (x, kernel, pads), conv = args, context.module
  return lax.conv_general_dilated(
    x,
    kernel,
    (conv.stride,) * 2,
    pads,
    rhs_dilation=(conv.dilation,) * 2,
    feature_group_count=conv.groups,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _traced(network: Network, size: tuple[int, int]) -> tuple[Program, set[Array]]:
  """The forward pass as differentiation by the parameters runs it, and what that keeps."""
  forward, inputs, depends = _forward(network, size)

  def differentiated(params: Any, stats: Any, images: jax.Array) -> Any:
    return jax.vjp(lambda p: forward(p, stats, images), params)

  jaxpr, (outputs, _) = jax.make_jaxpr(differentiated, return_shape=True)(*inputs)
  program = Program(jaxpr.jaxpr, depends)
  kept = program.outputs[len(jax.tree.leaves(outputs)) :]
  return program, {x for x in kept if _counts(x)}


class _Places:
  """Which stage an operation or a parameter belongs to."""

  def __init__(self, network: Network):
    self._params, _ = network.shapes()
    self._parts = {type(module).__name__: part for part, module in network.parts.items()}

  def parameters(self) -> Iterator[tuple[str, Cost]]:
    """Yields (stage, cost) of every child."""
    for part, units in self._params.items():
      for unit, tree in units.items():
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
        yield f"{part}/{_family(unit)}", Cost(params=count)

  def stage(self, operation: Operation) -> str:
    """Returns the stage in which an operation runs."""
    part = next(self._parts[scope] for scope in operation.scopes if scope in self._parts)
    unit = next((scope for scope in operation.scopes if scope in self._params[part]), None)
    return f"{part}/{OTHER if unit is None else _family(unit)}"


def _family(unit: str) -> str:
  """'layer1_0' -> 'layer1', 'stem2' -> 'stem': units that differ in their last number."""
  return re.sub(r"_\d+$|\d+$", "", unit)


def _products(program: Program) -> Iterator[tuple[Operation, Cost]]:
  """Yields every convolution and matrix product with its cost."""
  for operation in program.operations:
    if operation.primitive in PRODUCTS:
      flops = PRODUCTS[operation.primitive](operation)
      if operation.outputs[0].depends == PICTURE:
        flops /= BATCH
      yield operation, Cost(resize_flops=flops) if operation.by_constant else Cost(flops=flops)


def _kept(program: Program, asked: set[Array]) -> Iterator[tuple[Operation, Cost]]:
  """Yields every array that stays in memory for `asked`, as its operation and its cost."""
  read = {
    x
    for operation in program.operations
    if operation.primitive in PRODUCTS or operation.primitive in _POOLS
    for x in operation.inputs
  }
  kept = asked & read
  for x in sorted(asked - read, key=lambda x: x.number):
    sources = _sources(x, kept)
    kept |= sources if sum(s.nbytes for s in sources) <= x.nbytes else {x}
  for x in sorted(kept, key=lambda x: x.number):
    yield x.maker, Cost(kept=x.nbytes / BATCH)


def _counts(x: Array) -> bool:
  return x.depends == PICTURE and x.maker is not None


def _sources(x: Array, kept: set[Array]) -> set[Array]:
  """What is still to be kept so that elementwise arithmetic makes `x` again."""
  found, seen, ahead = set(), set(), [x]
  while ahead:
    x = ahead.pop()
    if x in seen or x in kept or not _counts(x):
      continue
    seen.add(x)
    if x.maker.primitive in _ELEMENTWISE:
      ahead.extend(x.maker.inputs)
    else:
      found.add(x)
  return found
