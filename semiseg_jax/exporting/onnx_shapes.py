"""Shapes that ONNX files say of their outputs, where the number of pictures is free.

jax2onnx pads the matrix of `einsum("oh,...hwc->...owc", matrix, x)` to the axes of the ellipsis, of
length 1; onnxruntime takes that length for the one of the result.
"""

import string
from typing import Any


def name_axes(graph: Any) -> None:
  """Gives the axes of an ellipsis letters of their own wherever an operand was padded to them.

  Args:
    graph: an onnx.GraphProto, which is changed.
  """
  lengths = {one.name: list(one.dims) for one in graph.initializer}
  made = {node.output[0]: node for node in graph.node if node.op_type == "Unsqueeze"}
  padded = {
    name: (node.input[0], lengths[node.input[1]][0])
    for name, node in made.items()
    if node.input[1] in lengths
  }
  einsums = [node for node in graph.node if node.op_type == "Einsum"]
  replaced = {name for node in einsums for name in _name(node, padded)}
  read = {name for node in graph.node for name in node.input}
  _remove(graph, [made[name] for name in sorted(replaced - read)])


def _name(node: Any, padded: dict[str, tuple[str, int]]) -> list[str]:
  """Returns the operands that were replaced; `padded`: name -> name before, and axes added."""
  (equation,) = (attribute for attribute in node.attribute if attribute.name == "equation")
  operands, _, result = equation.s.decode().partition("->")
  terms, before = operands.split(","), list(node.input)
  places = [i for i, name in enumerate(before) if name in padded and terms[i].startswith("...")]
  if not places or len(places) == len(terms):
    return []
  free = (letter for letter in string.ascii_letters if letter not in operands + result)
  letters = "".join(next(free) for _ in range(padded[before[places[0]]][1]))
  for i in places:
    node.input[i], terms[i] = padded[before[i]][0], terms[i].removeprefix("...")
  equation.s = "->".join((",".join(terms), result)).replace("...", letters).encode()
  return [before[i] for i in places]


def _remove(graph: Any, nodes: list[Any]) -> None:
  """Removes nodes, what is said of their results, and constants that they alone read."""
  names = {node.output[0] for node in nodes}
  counts = {node.input[1] for node in nodes}
  for node in nodes:
    graph.node.remove(node)
  counts -= {name for node in graph.node for name in node.input}
  for place, gone in ((graph.value_info, names), (graph.initializer, counts)):
    for one in [one for one in place if one.name in gone]:
      place.remove(one)
