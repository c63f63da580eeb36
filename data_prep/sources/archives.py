"""Sources as people have them: a folder, a zip, a tar, or several of them, read as they are.

Nothing is unpacked to disk. A `Member` is one file of a source: it pickles, and reads itself in any
process without the index of its archive.
"""

import abc
import bz2
import dataclasses
import gzip
import lzma
import os
import pathlib
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from semiseg_jax.data.picture_files import files_under, is_hidden
from semiseg_jax.errors import DataError

_ZIP = b"PK"
_COMPRESSED = {
  b"\x1f\x8b": (gzip.open, "gunzip -k"),
  b"BZh": (bz2.open, "bunzip2 -k"),
  b"\xfd7zXZ": (lzma.open, "unxz -k"),
}
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
_ENCRYPTED = 0x1
_HELD_BYTES = 1 << 29
_MEMBER_BYTES = 1 << 30  # unpacked: above, a member is no picture, or made to fill the memory
_MOST_PACKED = 100  # times the compressed tar, which a member above the limit may unpack to
_HEADER_BYTES = 1 << 20  # of a long name in a tar
_LONG_HEADS = (
  *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
  *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_LINK_BYTES = 1 << 12  # of the path that a link in a zip holds
_BROKEN = (OSError, EOFError, ValueError, OverflowError, zlib.error, lzma.LZMAError, struct.error)
# RuntimeError: heads of long names behind each other, which tarfile reads by recursion; the others:
# maps of sparse members that end too early.
_BROKEN_TAR = (tarfile.TarError, RuntimeError, LookupError, TypeError, StopIteration, *_BROKEN)
_BROKEN_ZIP = (zipfile.BadZipFile, RuntimeError, LookupError, *_BROKEN)


@dataclasses.dataclass(frozen=True)
class Member(abc.ABC):
  """One file of a source.

  Attributes:
    source: the path of the folder or archive.
    name: path inside it, with '/'.
    size: bytes.
    stamp: changes when the content does.
  """

  source: str
  name: str
  size: int
  stamp: str

  @property
  def where(self) -> str:
    """Names the file in messages."""
    return f"{self.source}:{self.name}"

  @abc.abstractmethod
  def read(self) -> bytes:
    """The content. DataError when it cannot be read, or is not what the archive's index says."""


@dataclasses.dataclass(frozen=True)
class FileMember(Member):
  """A file in a folder."""

  @property
  def where(self) -> str:
    """The path."""
    return os.path.join(self.source, self.name)

  def read(self) -> bytes:
    """The content."""
    return _read_part(self, self.where, 0, None)


@dataclasses.dataclass(frozen=True)
class ZipMember(Member):
  """A file in a zip: stored or deflated, with its place and checksum.

  The module zipfile would first read the index of the archive in each process: 500 small labels of
  12,000 took it 91 ms, and take 11 ms by their places.
  """

  offset: int
  packed_size: int
  method: int
  crc: int
  stored: str = ""

  def read(self) -> bytes:
    """The content, which agrees with its checksum."""
    if self.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
      raise DataError(f"{self.where}: compression {self.method}; pack it again, with deflate")
    _check_bytes(self)
    head = _read_part(self, self.source, self.offset, _LOCAL_HEADER.size)
    signature, name, extra = _LOCAL_HEADER.unpack(head)
    start = self.offset + _LOCAL_HEADER.size + name + extra
    called = _read_part(self, self.source, self.offset + _LOCAL_HEADER.size, name)
    if called not in (self.stored.encode(), self.stored.encode("cp437", "replace")):
      raise _damaged(self.where, f"its own head calls it {called.decode(errors='replace')!r}")
    data = _read_part(self, self.source, start, self.packed_size)
    try:
      if self.method == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, self.size + 1)
    except zlib.error as error:
      raise _damaged(self.where, error) from error
    if signature != b"PK\3\4" or zlib.crc32(data) != self.crc:
      raise _damaged(self.where, "its checksum differs")
    return data


@dataclasses.dataclass(frozen=True)
class TarMember(Member):
  """A file in an uncompressed tar."""

  offset: int

  def read(self) -> bytes:
    """The content."""
    _check_bytes(self)
    return _read_part(self, self.source, self.offset, self.size)


@dataclasses.dataclass(frozen=True)
class HeldMember(Member):
  """A file of a compressed tar, held in memory."""

  data: bytes | None = dataclasses.field(repr=False)

  def read(self) -> bytes:
    """The content."""
    return self.data


def list_members(
  paths: Sequence[str | os.PathLike],
  nested: re.Pattern[str] | None = None,
  held: re.Pattern[str] | None = None,
) -> list[Member]:
  """All files of the sources, without hidden ones, in the order of the sources, then of the names.

  Args:
    paths: folders and archives.
    nested: archives inside folders whose file name matches are listed as well, after the files.
    held: of a compressed tar, which can only be read from front to back, the members whose name
      is found by this are read at once and held in memory; without it such a tar is an error.

  Raises:
    DataError: a missing, truncated, damaged or encrypted archive, one with members outside of it
      (absolute names, '..', links that leave it), or of one name; all such members are named.
  """
  members = []
  for path in map(str, paths):
    if not os.path.isdir(path):
      members += _list_archive(path, held)
      continue
    files = sorted(_list_folder(path), key=lambda member: member.name)
    inner = [m for m in files if nested and nested.fullmatch(posixpath.basename(m.name))]
    members += [member for member in files if member not in inner]
    for archive in inner:
      members += _list_archive(archive.where, held)
  return members


def _list_folder(folder: str) -> Iterator[FileMember]:
  for path in filter(pathlib.Path.is_file, files_under(folder)):
    found = path.stat()
    name = path.relative_to(folder).as_posix()
    yield FileMember(folder, name, found.st_size, str(found.st_mtime_ns))


def _list_archive(path: str, held: re.Pattern[str] | None) -> list[Member]:
  try:
    with open(path, "rb") as file:
      start = file.read(512)
  except OSError as error:
    raise DataError(f"source {path} cannot be read ({error}); correct the path") from error
  kind = next((kind for magic, kind in _COMPRESSED.items() if start.startswith(magic)), None)
  if start.startswith(_ZIP):
    found = _list_zip(path)
  elif kind:
    found = _hold_tar(path, kind, held)
  elif start[257:262] == b"ustar" or path.endswith(".tar"):
    found = _list_tar(path)
  else:
    raise DataError(
      f"{path}: neither a folder nor a zip or tar archive, or damaged; download it again"
    )
  return sorted(found, key=lambda member: member.name)


def _list_zip(path: str) -> list[Member]:
  names = _Names(path)
  members, links = {}, {}
  try:
    with zipfile.ZipFile(path) as archive:
      for info in archive.infolist():
        name = names.check(info.filename)
        if name is None or info.is_dir():
          continue
        if info.flag_bits & _ENCRYPTED:
          names.problems.append(f"member {info.filename!r} is encrypted; unpack and pack it again")
          continue
        if stat.S_ISLNK(info.external_attr >> 16):
          with archive.open(info) as link:
            to = link.read(_LINK_BYTES).decode()
          links[name] = posixpath.join(posixpath.dirname(name), to)
        names.add(name)
        members[name] = ZipMember(
          *(path, name, info.file_size, f"crc {info.CRC:08x}"),
          *(info.header_offset, info.compress_size, info.compress_type, info.CRC),
          info.orig_filename,
        )
  except _BROKEN_ZIP as error:
    raise _damaged(path, error) from error
  return names.finish(members, links)


def _list_tar(path: str) -> list[Member]:
  names = _Names(path)
  members, links = {}, {}
  changed = os.stat(path).st_mtime_ns
  try:
    with tarfile.open(path, "r:", tarinfo=_Head) as archive:
      for info in archive:
        _check_place(info, archive, os.path.getsize(path))
        name = names.check(info.name)
        if name is None or info.isdir():
          continue
        names.add_of_tar(name, info, links)
        stamp = f"{changed} {info.mtime} {info.chksum}"
        members[name] = TarMember(path, name, info.size, stamp, info.offset_data)
      archive.fileobj.seek(archive.offset)
      if archive.fileobj.read(1) != b"\0":  # an archive ends with blocks of zeros
        raise EOFError("its end is missing")
  except _BROKEN_TAR as error:
    raise _damaged(path, error) from error
  return names.finish(members, links)


def _hold_tar(
  path: str,
  kind: tuple[Callable, str],
  held: re.Pattern[str] | None,
  targets: frozenset[str] = frozenset(),
) -> list[Member]:
  open_, command = kind
  mend = f"make it a .tar once with `{command} {path}` and give that, which is read as it is"
  if held is None:
    raise DataError(f"{path}: a compressed tar can only be read from front to back; {mend}")
  names = _Names(path)
  members, links, total = {}, {}, 0
  most = max(_MEMBER_BYTES, _MOST_PACKED * os.path.getsize(path))
  try:
    with (
      open_(path) as stream,
      tarfile.open(fileobj=stream, mode="r|", tarinfo=_Head) as archive,
    ):
      for info in archive:
        _check_place(info, archive, most)
        name = names.check(info.name)
        if name is None or info.isdir():
          continue
        names.add_of_tar(name, info, links)
        is_held = info.isreg() and not info.issparse() and (held.search(name) or name in targets)
        total += info.size if is_held else 0
        data = archive.extractfile(info).read() if is_held and total <= _HELD_BYTES else None
        stamp = "" if data is None else f"crc {zlib.crc32(data):08x}"
        members[name] = HeldMember(path, name, info.size, stamp, data)
      while stream.read(1 << 20):  # to the checksum at the end
        pass
  except _BROKEN_TAR as error:
    raise _damaged(path, error) from error
  if total > _HELD_BYTES:
    raise DataError(f"{path}: {total >> 20} MB to be held in memory; {mend}")
  wanted = {posixpath.normpath(raw) for name, raw in links.items() if held.search(name)}
  if not targets and any(members[name].data is None for name in wanted & members.keys()):
    return _hold_tar(path, kind, held, frozenset(wanted))  # what links point to is read, too
  found = names.finish(members, links)
  return [member for member in found if member.data is not None and held.search(member.name)]


class _Head(tarfile.TarInfo):
  """The head of a member; what tarfile itself would hold in memory is bounded."""

  @classmethod
  def frombuf(cls, *args: Any) -> "_Head":
    found = super().frombuf(*args)
    if found.type in _LONG_HEADS and not 0 <= found.size <= _HEADER_BYTES:
      raise tarfile.ReadError(f"a name or comment of {found.size} bytes")
    return found


def _check_place(info: tarfile.TarInfo, archive: tarfile.TarFile, most: int) -> None:
  """Looks at a member before tarfile goes on to the next: block by block, or back for ever.

  Raises:
    ValueError: a size below 0, or above `most`, which the file cannot hold.
  """
  span = archive.offset - info.offset_data
  for size in (span, span if info.issparse() else info.size):  # sparse ones are larger, and refused
    if not 0 <= size <= most:
      raise ValueError(f"member {info.name[:200]!r} is said to have {size:,} bytes")


class _Names:
  """The member names of an archive, and what is wrong with them."""

  def __init__(self, path: str):
    self._path = path
    self._seen: set[str] = set()
    self.problems: list[str] = []

  def check(self, raw: str) -> str | None:
    """The name in plain form; None when hidden, or not to be followed."""
    name = raw.replace("\\", "/")
    if _leaves(name):
      self.problems.append(f"member {raw!r} lies outside of the archive")
      return None
    name = posixpath.normpath(name)
    return None if any(is_hidden(part) for part in name.split("/")) else name

  def add(self, name: str) -> None:
    """Notes a file."""
    if name in self._seen:
      self.problems.append(f"member {name!r} is there twice")
    self._seen.add(name)

  def add_of_tar(self, name: str, info: tarfile.TarInfo, links: dict[str, str]) -> None:
    """Notes a member of a tar; a link goes to `links`."""
    self.add(name)
    if info.issym() or info.islnk():
      folder = posixpath.dirname(name) if info.issym() else ""
      links[name] = posixpath.join(folder, info.linkname)
    elif not info.isreg() or info.issparse():
      self.problems.append(f"member {info.name!r} is no plain file; pack it without")

  def finish(self, members: dict[str, Member], links: dict[str, str]) -> list[Member]:
    """The members, links being those they point to; DataError with the problems."""
    for name, raw in links.items():
      target = posixpath.normpath(raw)
      if _leaves(target) or target in links or target not in members:
        self.problems.append(
          f"member {name!r} is a link to {raw[:200]!r}, which is no file in here"
        )
      else:
        members[name] = dataclasses.replace(members[target], name=name)
    if self.problems:
      raise DataError.of_all(
        f"archive {self._path} is not to be trusted, get it again from its origin:", self.problems
      )
    return list(members.values())


def _leaves(name: str) -> bool:
  return name.startswith("/") or ".." in name.split("/") or bool(re.match("[A-Za-z]:", name))


def _read_part(member: Member, path: str, offset: int, size: int | None) -> bytes:
  """Bytes of a file; `size` None: to its end."""
  try:
    with open(path, "rb") as file:
      there = os.fstat(file.fileno()).st_size - offset
      file.seek(offset)
      data = file.read() if size is None else file.read(min(size, max(there, 0)))
  except OSError as error:
    raise DataError(f"{member.where}: cannot be read ({error}); replace or remove it") from error
  if size is not None and len(data) != size:
    raise _damaged(member.where, "it ends too early")
  return data


def _check_bytes(member: Member) -> None:
  if member.size > _MEMBER_BYTES:
    raise DataError(
      f"{member.where}: {member.size / 1e9:,.1f} GB unpacked, above the limit of "
      f"{_MEMBER_BYTES / 1e9:,.1f} GB; unpack the archive and give its folder if that is right"
    )


def _damaged(where: str, error: object) -> DataError:
  return DataError(f"{where}: truncated or damaged ({error}); download it again")
