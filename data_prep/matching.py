"""Pictures whose ids match a pattern as a list of their own, and all others: a video held out."""

import re
from collections.abc import Sequence

from semiseg_jax.errors import DataError


def divide(ids: Sequence[str], pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Returns the ids in which `pattern` finds something, and the others, both in their order.

  Raises:
    DataError: no regular expression, or one that leaves one of the lists empty.
  """
  try:
    finder = re.compile(pattern)
  except re.error as error:
    raise DataError(f"--matching {pattern!r} is no regular expression: {error}") from error
  found = tuple(id_ for id_ in ids if finder.search(id_))
  if len(found) in (0, len(ids)):
    which = "all" if found else "none"
    raise DataError(
      f"--matching {pattern!r} matches {which} of {len(ids)} pictures, so one list would be empty; "
      f"ids are such as {ids[0]!r} and {ids[-1]!r}"
    )
  return found, tuple(id_ for id_ in ids if not finder.search(id_))
