"""Protocols as files tell them, those of earlier versions among them."""

import dataclasses
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from semiseg_jax.evaluation.protocol import Protocol, usually_summed

# What earlier versions left out was so; they saw classifiers' pictures ("picture") at one size.
USUAL: Mapping[str, Any] = MappingProxyType(
  {
    "window": None,
    "stride": None,
    **{
      field.name: list(field.default) if isinstance(field.default, tuple) else field.default
      for field in dataclasses.fields(Protocol)
      if field.default is not dataclasses.MISSING
    },
  }
)


def completed(told: Mapping[str, Any]) -> dict[str, Any]:
  """Returns all fields of a protocol, plain JSON values.

  Args:
    told: of `as_dict`, or of a result file of any version: a field that it lacks had its default,
      and `summed` says what was added.
  """
  how = json.loads(json.dumps(dict(told)))
  if how.get("mode") == "picture":
    return {"stack": "", **how}
  how = {**USUAL, **{name: value for name, value in how.items() if value is not None}}
  if how["summed"] == "":
    how["summed"] = usually_summed(str(how.get("network", "0")), how["scales"], how["flip"])
  return how


def without_network(told: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a completed protocol but for which network is scored.

  `summed` is '' where it is what that network adds anyway: then it follows from the network.
  """
  how = completed(told)
  if how["mode"] != "picture":
    usual = usually_summed(str(how.get("network", "0")), how["scales"], how["flip"])
    how["summed"] = "" if how["summed"] == usual else how["summed"]
  return {name: value for name, value in how.items() if name not in ("network", "stack")}


def unusual(told: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what a line for people says of a protocol: fields that are not at their defaults."""
  how = {**completed(told), **without_network(told)}
  return {name: value for name, value in how.items() if value != USUAL.get(name)}
