"""Text files as systems and programs save them: UTF-8, and UTF-16 or UTF-32 as Windows does."""

import codecs
import os
import pathlib

_MARKS = (  # UTF-32's begin as those of UTF-16
  (codecs.BOM_UTF32_LE, "utf-32"),
  (codecs.BOM_UTF32_BE, "utf-32"),
  (codecs.BOM_UTF16_LE, "utf-16"),
  (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | os.PathLike) -> str:
  """The text of a file, without a byte order mark.

  Raises:
    ValueError: a file that cannot be opened, or is no text; the message lacks the file's name.
  """
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(f"{error.strerror}; correct the path") from error
  try:
    return data.decode(_encoding(data))
  except UnicodeDecodeError as error:
    raise ValueError("it is no text in UTF-8; save it as UTF-8") from error


def _encoding(data: bytes) -> str:
  """By the mark, or by the zeros that UTF-16 has beside the first letter."""
  for mark, encoding in _MARKS:
    if data.startswith(mark):
      return encoding
  if data[:1] == b"\0" != data[1:2]:
    return "utf-16-be"
  if data[:1] != b"\0" == data[1:2]:
    return "utf-16-le"
  return "utf-8-sig"
