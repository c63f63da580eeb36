"""Numbers with their nouns in texts for people."""


def counted(count: int, one: str, many: str | None = None) -> str:
  """Returns '1 picture', '2 pictures'; with `many`, '1 picture has', '2 pictures have'.

  Args:
    count: the number.
    one: what stands behind 1.
    many: what stands behind other numbers; None: `one` with an s.
  """
  return f"{count} {one if count == 1 else many or f'{one}s'}"
