"""The operations of a traced program, one after the other, and the arithmetic of its products."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.extend

CONSTANT, PARAMETER, PICTURE = range(3)  # what an array depends on, the last counts
_CALLS = (
  "checkpoint",
  "closed_call",
  "custom_jvp_call",
  "custom_vjp_call",
  "jit",
  "remat2",
  "shard_map",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Array:
  """A value of the program: `maker` is the operation it comes from, None for an input."""

  aval: Any
  depends: int
  number: int
  maker: "Operation | None" = None

  @property
  def nbytes(self) -> int:
    """Its size in memory."""
    return self.aval.size * self.aval.dtype.itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
  """A primitive and its operands; `scopes` are the names of modules and transformations around."""

  primitive: str
  params: dict[str, Any]
  scopes: tuple[str, ...]
  inputs: list[Array]
  outputs: list[Array] = dataclasses.field(default_factory=list)

  @property
  def by_constant(self) -> bool:
    """Whether it is a product with a constant, such as a matrix that resizes."""
    return self.primitive != "scan" and min(x.depends for x in self.inputs) == CONSTANT


class Program:
  """A jaxpr without calls: what `jit`, `jax.checkpoint` and so on enclose stands in line.

  Operations that no output needs are left out, as a compiler does.
  """

  def __init__(self, jaxpr: Any, depends: Sequence[int]):
    self.operations: list[Operation] = []
    self._made = 0
    inputs = [self._array(var.aval, kind) for var, kind in zip(jaxpr.invars, depends, strict=True)]
    self.outputs = self._run(jaxpr, inputs, ())
    self.operations = _used(self.operations, self.outputs)

  def _array(self, aval: Any, depends: int, maker: Operation | None = None) -> Array:
    self._made += 1
    return Array(aval, depends, self._made, maker)

  def _run(self, jaxpr: Any, inputs: list[Array], scopes: tuple[str, ...]) -> list[Array]:
    constants = {var: self._array(var.aval, CONSTANT) for var in jaxpr.constvars}
    known = constants | dict(zip(jaxpr.invars, inputs, strict=True))

    def read(var: Any) -> Array:
      literal = isinstance(var, jax.extend.core.Literal)
      return self._array(var.aval, CONSTANT) if literal else known[var]

    for eqn in jaxpr.eqns:
      inside = scopes + _scopes(eqn.source_info.name_stack)
      known.update(zip(eqn.outvars, self._step(eqn, [read(v) for v in eqn.invars], inside)))
    return [read(var) for var in jaxpr.outvars]

  def _step(self, eqn: Any, inputs: list[Array], scopes: tuple[str, ...]) -> list[Array]:
    name, inner = eqn.primitive.name, list(jax.extend.core.jaxprs_in_params(eqn.params))
    if name in _CALLS:
      return self._run(inner[0], inputs, scopes)
    if name not in PRODUCTS and any(_has_products(jaxpr) for jaxpr in inner):
      raise ValueError(f"{'/'.join(scopes)}: products inside of {name!r} cannot be counted.")
    depends = max((x.depends for x in inputs), default=CONSTANT)
    operation = Operation(name, eqn.params, scopes, inputs)
    operation.outputs.extend(self._array(var.aval, depends, operation) for var in eqn.outvars)
    self.operations.append(operation)
    return operation.outputs


def _used(operations: list[Operation], outputs: list[Array]) -> list[Operation]:
  needed, used = set(outputs), []
  for operation in reversed(operations):
    if not needed.isdisjoint(operation.outputs):
      needed.update(operation.inputs)
      used.append(operation)
  return used[::-1]


def _scopes(name_stack: Any) -> tuple[str, ...]:
  # 'transpose(jvp(ResNet))/layer1_0/...': the names of transformations are among the others.
  return tuple(filter(None, re.split(r"[/()]+", str(name_stack))))


def _has_products(jaxpr: Any) -> bool:
  inner = (sub for eqn in jaxpr.eqns for sub in jax.extend.core.jaxprs_in_params(eqn.params))
  own = any(eqn.primitive.name in PRODUCTS for eqn in jaxpr.eqns)
  return own or any(_has_products(sub) for sub in inner)


def _convolution_flops(operation: Operation) -> int:
  kernel, numbers = operation.inputs[1].aval.shape, operation.params["dimension_numbers"]
  taps = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
  return 2 * operation.outputs[0].aval.size * taps


def _product_flops(operation: Operation) -> int:
  (summed, _), _ = operation.params["dimension_numbers"]
  shape = operation.inputs[0].aval.shape
  return 2 * operation.outputs[0].aval.size * math.prod(shape[axis] for axis in summed)


def _loop_flops(operation: Operation) -> int:
  body = operation.params["jaxpr"].jaxpr
  inside = Program(body, [PICTURE] * len(body.invars)).operations
  once = (PRODUCTS[one.primitive](one) for one in inside if one.primitive in PRODUCTS)
  return operation.params["length"] * sum(once)


# Primitive -> FLOPs of an operation: 2 per tap of a kernel, on padding as well.
PRODUCTS = {
  "conv_general_dilated": _convolution_flops,
  "dot_general": _product_flops,
  "scan": _loop_flops,
}
