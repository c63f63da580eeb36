"""What can be compared of several runs: results obtained in one way, and the keys that differ."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from semiseg_jax.reporting.results import Result, protocol, way
from semiseg_jax.reporting.runs import Run

_NOT_OF_A_RECIPE = ("name",)  # a key that differs with every experiment and says nothing


@dataclasses.dataclass(frozen=True)
class Group:
  """Results by one protocol on one list of one dataset: these, and only these, are ranked.

  Attributes:
    entries: (run, its result), the best score first.
  """

  entries: list[tuple[Run, Result]]

  @property
  def result(self) -> Result:
    """One of them; of protocol, list and dataset they say the same."""
    return self.entries[0][1]


def groups(runs: Sequence[Run]) -> list[Group]:
  """Returns the groups, the one with most runs first."""
  found: dict[str, list[tuple[Run, Result]]] = {}
  for run in runs:
    for result in run.results:
      found.setdefault(way(result), []).append((run, result))
  ranked = [Group(sorted(entries, key=lambda e: -e[1].score)) for entries in found.values()]
  return sorted(ranked, key=lambda group: -len(group.entries))


def differences(of_groups: Sequence[Group]) -> list[str]:
  """Returns what tells the groups apart, a line each: key and values."""
  about = [_ways(group.result) for group in of_groups]
  hashes = [{key: way[key][-1] for key in _HASHED} for way in about]
  same = set(_HASHED) - {key for key, *_ in differing(hashes)}  # under whatever name
  shown = [{k: " ".join(v) if k in _HASHED else v for k, v in way.items()} for way in about]
  return [f"{key}: {', '.join(values)}" for key, values, _ in differing(shown) if key not in same]


_HASHED = ("list", "dataset")


def _ways(result: Result) -> dict[str, Any]:
  fields = result.fields
  return {
    **{f"protocol {key}": value for key, value in protocol(result).items()},
    "list": (fields["split"]["name"], f"({fields['split']['sha256'][:8]})"),
    "dataset": (
      str(fields["dataset"].get("name", "")),
      f"({fields['dataset']['fingerprint'][:8]})",
    ),
  }


def differing(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], list[str]]]:
  """Returns (key, its different values, the value of each config) of the keys that differ.

  Values are written as JSON; a config that lacks a key has a dash.
  """
  found = []
  keys = dict.fromkeys(key for config in configs for key in config)
  for key in keys:
    exact = [json.dumps(config[key]) if key in config else "" for config in configs]
    if len(set(exact)) > 1 and key not in _NOT_OF_A_RECIPE:
      values = [written(config[key]) if key in config else "–" for config in configs]
      found.append((key, list(dict.fromkeys(values)), values))
  return found


def written(value: Any) -> str:
  """Returns a value for people: a text as it is, '' in quotes, the rest as JSON.

  Of a block its keys and values, without checksums and what is empty.
  """
  if isinstance(value, Mapping):
    shown = {k: v for k, v in value.items() if k != "checksums" and v not in ([], {}, "", None)}
    return " ".join(f"{k} {written(v)}" for k, v in shown.items())
  return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
