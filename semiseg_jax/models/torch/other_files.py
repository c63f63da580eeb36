"""What a file is that holds no weights in a known format, said so that its mend is plain."""

import os
import pathlib
from collections.abc import Sequence

# How files begin.
_HEADS = {
  b"\x89HDF": "an HDF5 file, as Keras writes them",
  b"\x1f\x8b": "packed by gzip: unpack it",
  b"BZh": "packed by bzip2: unpack it",
  b"\xfd7zXZ\0": "packed by xz: unpack it",
  b"\x28\xb5\x2f\xfd": "packed by Zstandard: unpack it",
  b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it, and give the file in it",
  b"Rar!": "a RAR archive: unpack it, and give the file in it",
  b"\x93NUMPY": "one array of numpy.save: save the arrays by name, numpy.savez(FILE, **state)",
  b"version https://git-lfs": "a pointer of Git LFS, not the file: `git lfs pull` fetches it",
  b"<": "a page of HTML or XML, as a download that failed leaves it",
}
_SUFFIXES = {".onnx": "an ONNX graph", ".pb": "a graph of TensorFlow", ".index": "of TensorFlow"}
_PACKED = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar", ".safetensors", ".npz", ".zip")
_TEXT = frozenset(range(32, 127)) | {9, 10, 13}


def described(head: bytes, suffix: str) -> str:
  """Returns what a file is, empty where nobody knows.

  Args:
    head: its first 512 bytes.
    suffix: of its name.
  """
  if not head:
    return "empty"
  if head[257:262] == b"ustar":
    return "a tar archive: unpack it, and give the file in it"
  start = head.lstrip()
  return next((what for begin, what in _HEADS.items() if start.startswith(begin)), "") or (
    _SUFFIXES.get(suffix, "")
  )


def text(head: bytes) -> str:
  """Returns the first words of a text, empty where the bytes are none."""
  if not set(head) <= _TEXT:
    return ""
  return f"a text that begins {head.decode('ascii').split(chr(10))[0][:60]!r}"


def packed(names: Sequence[str]) -> str:
  """Returns the names of checkpoints among the members of a zip, empty where there is none."""
  files = [name for name in names if name.lower().endswith(_PACKED)]
  return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def no_file(path: str | os.PathLike[str]) -> str:
  """Returns what a path is that is no file."""
  if not os.path.exists(path):
    return "does not exist"
  if any(found for at in ("", "*/") for found in pathlib.Path(path).glob(f"{at}data.pkl")):
    return (
      "is no file: it is the folder of an unpacked checkpoint. Give the file as it was, or pack it "
      "again without compression (zip -0 -r FILE.pth FOLDER)"
    )
  return "is no file"
