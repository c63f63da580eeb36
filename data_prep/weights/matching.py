"""Finds networks in PyTorch state dicts: under any prefix, in any known naming, never by guessing.

A network is found where every tensor that it needs is there, under one prefix.  More places than
networks are an error that lists them.
"""

import collections
import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from data_prep.weights.namings import USUAL, Naming
from semiseg_jax.errors import WeightsError
from semiseg_jax.models.torch.state_dicts import COUNTER
from semiseg_jax.wording import counted

_SHOWN = 8  # names of one module in a list; more are counted
# Classification and training heads, which a segmentation backbone has no use for.
_HEADS = re.compile(
  r"(fc|_fc|classifier|heads?|last_linear|features\.18|_?conv_head|bn2|_bn1|final_layer|"
  r"incre_modules|downsamp_modules|dino_head|ibot_head)(\.|$)"
)
_AVERAGE = re.compile(r"(^|[._])(\w*ema|teacher\w*|averaged?\w*)\.")


@dataclasses.dataclass(frozen=True)
class Match:
  """One network in a state dict.

  names: wanted name -> name in the source.  prefix: of these.  naming: whose they are.
  absent: wanted names that nothing depends on and the source lacks.
  """

  names: dict[str, str]
  prefix: str
  naming: str
  absent: tuple[str, ...]

  def describe(self) -> str:
    """How the network was recognized, for the user."""
    words = [f"{self.naming} names" if self.naming != USUAL else "names as they are"]
    if self.prefix:
      words.append(f"under {self.prefix!r}")
    if self.absent:
      words.append(f"zeros for {', '.join(self.absent)}, which nothing reads")
    return ", ".join(words)


def find(
  state: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
  *,
  what: str,
  count: int = 1,
  optional: Collection[str] = (),
  namings: Mapping[str, Naming] | None = None,
  prefixes: Sequence[str] = (),
) -> list[Match]:
  """Finds `count` networks of one architecture.

  Args:
    state: state-dict name -> array.
    shapes: name of each tensor of the network -> its shape in PyTorch.
    what: name of the network, for messages.
    count: how many; in the order of the source, or of `prefixes`.
    optional: names that may be missing.
    namings: see `namings.namings`; None: the names are as in `shapes`.
    prefixes: beginnings that choose among several places, one for each network.

  Raises:
    WeightsError: the source lacks tensors (all are named), holds another number of networks, has
      tensors of other shapes (all are named), more blocks than the network or more inside of them.
  """
  namings = namings or {USUAL: lambda name: name}
  places = _places(state, set(shapes) - set(optional), namings, what)
  naming, found = _choose(places, count, prefixes, what)
  matches = []
  for prefix in found:
    theirs = {name: prefix + namings[naming](name) for name in shapes}
    names = {name: there for name, there in theirs.items() if there in state}
    matches.append(Match(names, prefix, naming, tuple(sorted(set(theirs) - set(names)))))
  for match in matches:
    _check_tensors(state, shapes, match, what)
    _check_depth(state, match, what)
    _check_inside(state, match, what)
  return matches


def _places(
  state: Mapping[str, np.ndarray],
  required: set[str],
  namings: Mapping[str, Naming],
  what: str,
) -> tuple[str, list[str]]:
  """Returns the naming and the prefixes under which everything required is there."""
  best = (-1, "", "", set())
  for naming, rename in namings.items():
    theirs = {rename(name) for name in required}
    counts = collections.Counter(
      name[:start] for name in state for start in _starts(name) if name[start:] in theirs
    )
    full = [prefix for prefix, hits in counts.items() if hits == len(theirs)]
    if full:
      return naming, full
    prefix, hits = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if hits > best[0]:
      best = (hits, prefix, naming, theirs)
  _, prefix, naming, theirs = best
  missing = sorted(name for name in theirs if prefix + name not in state)
  raise WeightsError(
    f"The source lacks {len(missing)} of the {len(theirs)} tensors of {what}"
    + (f" under {prefix!r}" if prefix else "")
    + f": {', '.join(missing)}. It has: {', '.join(sorted(state)[:10])}, ... Is it another network?"
  )


def _starts(name: str) -> list[int]:
  return [0] + [i + 1 for i, letter in enumerate(name) if letter == "."]


def _choose(
  places: tuple[str, list[str]], count: int, prefixes: Sequence[str], what: str
) -> tuple[str, list[str]]:
  naming, found = places
  chosen = found
  if prefixes:
    if len(prefixes) != count:
      raise WeightsError(
        f"--prefix was given {counted(len(prefixes), 'time')} for {counted(count, 'network')}."
      )
    unknown = [begin for begin in prefixes if not _beginning(found, begin)]
    if unknown:
      raise WeightsError(
        f"--prefix {unknown[0]}: no {what} is there; possible: "
        f"{', '.join(place.removesuffix('.') or repr('') for place in found)}."
      )
    chosen = [place for begin in prefixes for place in _beginning(found, begin)]
  if len(chosen) != count or len(set(chosen)) != count:
    raise WeightsError(
      f"{what} is in the source {counted(len(found), 'time')}, under "
      f"{', '.join(map(repr, found))}; "
      f"{count} wanted. Choose with --prefix (once for each network), or a configuration of that "
      f"many networks.{_hint(found)}"
    )
  return naming, chosen


def _hint(found: Sequence[str]) -> str:
  """Which places are averages, as authors name them: teacher_state, model_ema."""
  averages = [place for place in found if _AVERAGE.search(place)]
  keys = ", ".join(f"--prefix {place.removesuffix('.')}" for place in averages)
  return f" Averages of the training, which authors evaluate: {keys}." if averages else ""


def _beginning(found: Sequence[str], begin: str) -> list[str]:
  """The place that is `begin` itself, or those that start with it."""
  exact = [place for place in found if place.removesuffix(".") == begin.removesuffix(".")]
  return exact or [place for place in found if place.startswith(begin)]


def _check_tensors(
  state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], match: Match, what: str
) -> None:
  codes = [there for there in match.names.values() if state[there].dtype.kind != "f"]
  if codes:
    raise WeightsError(
      f"Not floats but {state[codes[0]].dtype} are {listed(codes)}: codes of a quantized network? "
      "Give its unquantized weights."
    )
  wrong = [
    f"{there}: the source has shape {state[there].shape}, {what} needs {tuple(shapes[name])}"
    for name, there in match.names.items()
    if state[there].shape != tuple(shapes[name])
  ]
  if wrong:
    raise WeightsError(
      "The source is another variant of the network, or has other classes, channels or (for a "
      "table of positions, which is never resampled) another size:\n  " + "\n  ".join(wrong)
    )


def _check_depth(state: Mapping[str, np.ndarray], match: Match, what: str) -> None:
  """Refuses a source whose lists of blocks go on: the file of a larger network."""
  used, size = set(match.names.values()), len(match.prefix)
  kinds = {_any_number(name) for name in used}
  more = [
    name
    for name in state
    if name.startswith(match.prefix)
    and _any_number(name) in kinds
    and name not in used
    and not _HEADS.match(name[size:])
  ]
  if more:
    raise WeightsError(
      f"The source has more blocks than {what}: {listed(more)}. Is it a larger network?"
    )


def _check_inside(state: Mapping[str, np.ndarray], match: Match, what: str) -> None:
  """Refuses a source that has more inside a layer or block: biases, attention, register tokens.

  Counters and other single numbers, as profilers leave them, are let through.
  """
  used = set(match.names.values())
  places = {place for name in used for place in _places_of(name)}
  more = [
    name
    for name, array in state.items()
    if array.size > 1 and name.startswith(match.prefix) and name not in used
    if not places.isdisjoint(_places_of(name))
  ]
  if more:
    raise WeightsError(
      f"The source has tensors inside of {what} that it does not have: {listed(more)}. It is "
      "another variant, which would give other numbers."
    )


def _places_of(name: str) -> list[str]:
  """Its layer, and the innermost numbered block that it lies in: 'layer1.0' of 'layer1.0.se.w'."""
  layer = name.rpartition(".")[0]
  block = re.match(r"(.*\.\d+)\.", name)
  return [layer, *([block[1]] if block else [])]


def _any_number(name: str) -> str:
  return ".".join("#" if word.isdigit() else word for word in name.split("."))


def unused(state: Mapping[str, np.ndarray], matches: Sequence[Match]) -> list[str]:
  """Returns the names of the source that no network took."""
  used = {name for match in matches for name in match.names.values()}
  return sorted(set(state) - used)


def describe_unused(names: Sequence[str], matches: Sequence[Match]) -> list[str]:
  """Returns lines for the user: classification heads, counters, and everything else."""
  prefixes = sorted((match.prefix for match in matches), key=len, reverse=True)

  def bare(name: str) -> str:
    return next((name[len(p) :] for p in prefixes if name.startswith(p)), name)

  counters = [name for name in names if name.endswith(COUNTER)]
  heads = [n for n in names if _HEADS.match(bare(n)) and n not in set(counters)]
  others = sorted(set(names) - set(counters) - set(heads))
  lines = [f"Not used ({len(names)}):"] if names else []
  for title, group in (("classification head", heads), ("others", others)):
    lines += [f"  {title}: {listed(group)}"] if group else []
  lines += [f"  {counted(len(counters), 'counter')} of batches ({COUNTER})"] if counters else []
  return lines


def listed(names: Sequence[str]) -> str:
  """The names; those of a module that has many are counted."""
  modules = collections.defaultdict(list)
  for name in names:
    modules[name.partition(".")[0]].append(name)
  return ", ".join(
    f"{module}.* ({len(group)} tensors)" if len(group) > _SHOWN else ", ".join(group)
    for module, group in modules.items()
  )
