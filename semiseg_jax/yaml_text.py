"""What YAML of any content can do to the library that reads it."""

import yaml

# What building values raises besides ValueError: tags such as `!!int ''` and `!!map [a]`, numbers
# and dates that cannot be, and too many brackets in each other.
FAULTS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
FAULTS += (RecursionError,)
_MOST = 100_000  # characters and values that aliases may add


class AliasError(ValueError):
  """Aliases that stand for more than any file of people, or for what they stand in."""


def check_aliases(text: str) -> None:
  """Counts what aliases stand for before anything is built: ten levels of ten are 10^10 values.

  Raises:
    AliasError: they add more than 100,000 characters and values, or one stands in its own anchor.
    yaml.YAMLError: it is no YAML.
  """
  sizes: dict[str, int | None] = {}  # of anchors; None: not at its end yet
  open_: list[tuple[str | None, int]] = []  # anchors of collections, and the size before each
  size = added = 0
  for event in yaml.parse(text, yaml.SafeLoader):
    if isinstance(event, yaml.DocumentStartEvent):
      sizes.clear()
    elif isinstance(event, yaml.AliasEvent) and event.anchor in sizes:
      stands_for = sizes[event.anchor]
      line = f"line {event.start_mark.line + 1}"
      if stands_for is None:
        raise AliasError(f"the alias *{event.anchor[:40]} in {line} stands for what it stands in")
      size, added = size + stands_for, added + stands_for
      if added > _MOST:
        raise AliasError(f"its aliases stand for more than {_MOST:,} values, from {line} on")
    elif isinstance(event, yaml.CollectionStartEvent):
      open_.append((event.anchor, size))
      size += 1
      if event.anchor:
        sizes[event.anchor] = None
    elif isinstance(event, yaml.CollectionEndEvent):
      anchor, before = open_.pop()
      if anchor:
        sizes[anchor] = size - before
    elif isinstance(event, yaml.ScalarEvent):
      size += 1 + len(event.value)
      if event.anchor:
        sizes[event.anchor] = 1 + len(event.value)
