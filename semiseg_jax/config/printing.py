"""The table of keys and the values of one experiment, for people: 100 columns."""

import textwrap
from collections.abc import Iterable, Iterator

from ml_collections import ConfigDict

from semiseg_jax.config import domain, reads, schema

WIDTH = 100
_NAME, _VALUE = 20, 20  # columns; a longer value has a line of its own
# What the default itself shows of the possible values.
_SHOWN = ("a text", "True or False", "a whole number, ", "a whole number", "a number, ", "a number")


def all_keys() -> Iterator[str]:
  """Yields the lines that say of every key its default, its consequence and possible values."""
  for block, entries in _by_block(schema.table().values()):
    yield from _heading(block, entries)
    for entry in entries:
      default = "(to be chosen)" if entry.key.required else repr(entry.default)
      yield from _row("  ", entry.name, default, f"{entry.key.help} {_possible(entry)}")
    yield ""


def _possible(entry: schema.Entry) -> str:
  text = domain.describe(entry)
  for shown in _SHOWN:
    text = text.removeprefix(shown)
  return f"[{text}]" if text else ""


def experiment(config: ConfigDict) -> Iterator[str]:
  """Yields the lines that say what a config sets: * marks values that are not the default."""
  values, unread = schema.flat(config.to_dict()), reads.unread(config)
  read = [e for e in schema.table().values() if e.path in values and e.path not in unread]
  for block, entries in _by_block(read):
    yield from _heading(block, entries)
    for entry in entries:
      value = schema.plain(values[entry.path])
      changed = value != entry.default
      said = f"default {entry.default!r}" if changed else ""
      yield from _row("* " if changed else "  ", entry.name, repr(value), said)
    yield ""
  yield "Nobody reads in this run:"
  for choice in dict.fromkeys(unread.values()):
    yield f"  {choice}"
    paths = (path for path, why in unread.items() if why == choice)
    yield from _wrapped(", ".join(_shortened(paths)), "    ")


def _by_block(entries: Iterable[schema.Entry]) -> Iterator[tuple[str, list[schema.Entry]]]:
  blocks: dict[str, list[schema.Entry]] = {}
  for entry in entries:
    blocks.setdefault(entry.block, []).append(entry)
  yield from blocks.items()


def _heading(block: str, entries: list[schema.Entry]) -> Iterator[str]:
  files = dict.fromkeys(f"{entry.owner.__module__.replace('.', '/')}.py" for entry in entries)
  yield f"{block or 'at the top'}    ({', '.join(files)})"


def _row(mark: str, name: str, value: str, text: str) -> Iterator[str]:
  start = f"{mark}{name:{_NAME}}  "
  indent = " " * (len(start) + _VALUE + 2)
  if len(value) <= _VALUE:
    yield from _wrapped(text, indent, f"{start}{value:{_VALUE}}  ")
    return
  yield from _wrapped(value, " " * len(start), start)
  if text:
    yield from _wrapped(text, indent)


def _wrapped(text: str, indent: str, start: str | None = None) -> list[str]:
  start = indent if start is None else start
  lines = textwrap.wrap(
    text, WIDTH, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
  )
  return lines or [start.rstrip()]


def _shortened(paths: Iterable[str]) -> Iterator[str]:
  """'data.a', 'data.b', 'eval.c' -> 'data.{a b}', 'eval.c'; 'eval.*' where all of it is meant."""
  sizes = {block: len(entries) for block, entries in _by_block(schema.table().values())}
  blocks: dict[str, list[str]] = {}
  for path in paths:
    block, _, name = path.rpartition(".")
    blocks.setdefault(block, []).append(name)
  for block, names in blocks.items():
    some = names[0] if len(names) == 1 else f"{{{' '.join(names)}}}"
    yield f"{block}.*" if len(names) == sizes[block] else f"{block}.{some}"
