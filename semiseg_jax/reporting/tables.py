"""The tables of a page: scores by group, keys that differ, and how each result was obtained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from semiseg_jax.evaluation import told_protocol
from semiseg_jax.reporting import comparing, scales
from semiseg_jax.reporting.comparing import Group
from semiseg_jax.reporting.lines import color
from semiseg_jax.reporting.markup import Content, Node, el
from semiseg_jax.reporting.results import Result
from semiseg_jax.reporting.runs import Run
from semiseg_jax.wording import counted

# Scalars of a result file -> what they are called; fractions.
_NUMBERS = {
  "miou": "mIoU",
  "mean_average_precision": "mean AP",
  "mean_f1": "mean F1",
  "pixel_accuracy": "pixel accuracy",
  "mean_class_accuracy": "class accuracy",
  "frequency_weighted_iou": "weighted IoU",
  "boundary_miou": "boundary mIoU",
}
_PER_CLASS = {
  "iou": "IoU",
  "boundary_iou": "boundary IoU",
  "average_precision": "AP",
  "f1": "F1",
  "recall": "recall",
  "precision": "precision",
}


_LONG = 40  # rows from which on a table scrolls inside
_SHORT = 90  # letters of a value that is shown at once
_NUMBER = 100  # of the column of a score
_RUN = 150  # least width of the column of a run, pixels


def table(
  head: Sequence[Content],
  rows: Sequence[Sequence[Content]],
  numbers: int = 0,
  *,
  even: int = 0,
) -> Node:
  """Returns a table that scrolls where it is too wide.

  Args:
    head: of the columns.
    rows: their first cells are heads too.
    numbers: so many last columns are numbers, and stand to the right.
    even: the least width of columns that are all of one width but for the first; 0: as they need.
  """
  first = len(head) - numbers
  side = lambda k: "number" if k >= first else None
  heads = [el("th", text, class_=side(k), scope="col") for k, text in enumerate(head)]
  body = [
    el("tr", el("th", row[0], scope="row"),
       [el("td", cell, class_=side(k) or "value") for k, cell in enumerate(row[1:], 1)])
    for row in rows
  ]  # fmt: skip
  style = f"min-width:{(len(head) + 1) * even}px" if even else None
  parts = el("thead", el("tr", heads)), el("tbody", body)
  inner = el("table", *parts, class_="even" if even else None, style=style)
  return el("div", inner, class_="scroll long" if len(rows) > _LONG else "scroll", tabindex="0")


def numbers(result: Result) -> dict[str, float]:
  """Returns the scores of a result under the names people use, fractions."""
  found = {said: result.fields.get(name) for name, said in _NUMBERS.items()}
  return {said: float(x) for said, x in found.items() if isinstance(x, int | float)}


def ranking(group: Group, colors: Mapping[str, int], of_groups: Sequence[Group]) -> Node:
  """Returns the scores of a group, the best first.

  Args:
    group: what may be ranked.
    colors: name of a run -> its color.
    of_groups: all groups of the page, whose tables have the same columns.
  """
  every = [result for one in of_groups for _, result in one.entries]
  names = list(dict.fromkeys(name for result in every for name in numbers(result)))
  known = any(result.interval for result in every)
  head = ["run", "", *(["95 % interval"] if known else []), *names, "step"]
  rows = []
  for run, result in group.entries:
    found = numbers(result)
    values = [scales.percent(found.get(name, math.nan)) for name in names]
    meter = _meter(result.score, colors[run.name])
    between = [ranged(result.interval)] if known else []
    name = [_mark(colors[run.name]), " ", run.name]
    rows.append([name, meter, *between, *values, f"{result.step}"])
  return table(head, rows, len(names) + 1 + known, even=_NUMBER)


def ranged(interval: tuple[float, float] | None) -> str:
  """Returns an interval of fractions in percent, nothing for None."""
  return f"{scales.percent(interval[0])} – {scales.percent(interval[1])}" if interval else ""


def _mark(number: int) -> Node:
  return el("span", class_="dot", style=f"display:inline-block;background:{color(number)}")


def _meter(share: float, number: int) -> Node:
  """A bar; as a drawing, so that it needs no width of its own in the style sheet."""
  width = max(0.0, min(1.0, share)) * 110
  bar = el("rect", width=width, height=8, rx=4, style=f"fill:{color(number)}")
  return el("svg", bar, viewBox="0 0 110 8", class_="meter", aria_hidden="true")


def how(result: Result) -> str:
  """Returns a protocol in a line, without what is usual: whole pictures, padded; network 0."""
  about = told_protocol.unusual(result.fields["protocol"])
  mode = about.pop("mode", "?")
  parts = [{"whole": "whole pictures", "slide": "sliding windows"}.get(mode, str(mode))]
  for key in ("window", "stride", "size"):
    if key in about:
      parts.append(f"{key} {_sides(about.pop(key))}")
  whole = about.pop("whole", "as_is")
  if mode == "whole":
    parts.append({"padded": "padded", "as_is": "as they are"}.get(whole, str(whole)))
  stack, network = about.pop("stack", ""), about.pop("network", "?")
  parts.append(f"{stack or 'network'} {network}")
  scales_, flip = about.pop("scales", [1.0]), about.pop("flip", False)
  if scales_ != [1.0]:
    parts.append(f"scales {comparing.written(scales_)}")
  if flip:
    parts.append("mirrored too")
  return ", ".join([*parts, *(f"{k} {comparing.written(v)}" for k, v in about.items())])


def _sides(size: Any) -> str:
  return " × ".join(map(str, size)) if isinstance(size, list) else str(size)


def listed(about: Mapping[str, Any]) -> str:
  """Returns a list in a line: name, number of ids, the start of its hash."""
  count = f", {counted(about['ids'], 'picture')}" if "ids" in about else ""
  return f"{about['name']}{count}, hash {str(about['sha256'])[:12]}"


def origin(run: Run, result: Result) -> Node:
  """Returns how a result was obtained."""
  fields = result.fields
  trained = fields.get("trained_on") or {}
  versions = fields.get("versions") or {}
  commit = versions.get("commit")
  edited = " with changes" if versions.get("changed") else ""
  rows: list[list[Content]] = [
    ["protocol", how(result)],
    ["evaluated list", listed(fields["split"])],
    [
      "dataset",
      f"{fields['dataset'].get('name', '')}, hash {fields['dataset']['fingerprint'][:12]}",
    ],
    ["checkpoint", f"step {result.step}"],
  ]
  for use, about in (trained.get("splits") or {}).items():
    if use != "val":
      rows.append([f"trained on, {use}", listed(about)])
  if trained.get("fingerprint") and trained["fingerprint"] != fields["dataset"]["fingerprint"]:
    rows.append(["trained on", f"{trained.get('name', '')}, hash {trained['fingerprint'][:12]}"])
  rows.append(["commit", f"{commit or 'not known'}{edited}"])
  said = [f"{name} {value}" for name, value in versions.items() if name not in _OF_COMMIT]
  rows += [
    ["versions", ", ".join(said) or "not known"],
    ["file", f"evaluations/{result.file.name}"],
  ]
  return table(["", f"{run.name}"], rows)


_OF_COMMIT = ("commit", "changed")


def keys(runs: Sequence[Run]) -> Node | None:
  """Returns the keys whose values differ, None where none do."""
  found = comparing.differing([run.config for run in runs if run.config])
  names = [run.name for run in runs if run.config]
  rows = [[el("code", key), *map(_value, values)] for key, _, values in found]
  return table(["key", *names], rows, even=_RUN) if rows else None


def _value(text: str) -> Node:
  """A value of a key; the rest of a long one is folded."""
  if len(text) <= _SHORT:
    return el("code", text)
  begin = text[:_SHORT].rpartition(" ")[0] or text[:_SHORT]
  return el("details", el("summary", el("code", f"{begin} …")), el("code", text), class_="value")


def own_keys(run: Run, usual: Mapping[str, Any]) -> Node | None:
  """Returns the keys of a run that are not at their defaults, None where all are."""
  found = comparing.differing([run.config, {k: usual[k] for k in run.config if k in usual}])
  rows = [[el("code", key), *map(_value, values)] for key, _, values in found]
  return table(["key", run.name, "default"], rows, even=_RUN) if rows else None


def per_class(result: Result, shares: Mapping[str, float]) -> Node:
  """Returns all scores of the classes.

  Args:
    result: has the scores.
    shares: class -> its share of the labeled pixels; may be empty.
  """
  known = {said: result.fields.get(name) for name, said in _PER_CLASS.items()}
  known = {said: values for said, values in known.items() if isinstance(values, dict)}
  rows = []
  for name in result.per_class:
    values = [values.get(name) for values in known.values()]
    cells = [scales.percent(math.nan if x is None else float(x)) for x in values]
    share = [f"{100 * shares[name]:.2f}"] if name in shares else [""] if shares else []
    rows.append([name, *cells, *share])
  head = ["class", *known, *(["% of pixels"] if shares else [])]
  return table(head, rows, len(head) - 1)


def shares_of(result: Result) -> dict[str, float]:
  """Returns class -> its share of the labeled pixels; empty where there is no confusion matrix."""
  counts = result.fields.get("confusion")
  total = sum(map(sum, counts)) if counts else 0
  return {c: sum(row) / total for c, row in zip(result.per_class, counts)} if total else {}
