"""The objects below a URL of an object store (gs://, s3://), through fsspec.

An object appears whole or not at all, and who lists after a write sees it: both stores say so.
"""

import contextlib
import dataclasses
import importlib
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from semiseg_jax.errors import ConfigError, DiskError

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "memory": "fsspec"}


@dataclasses.dataclass(frozen=True)
class About:
  """An object: its size in bytes, and what another content would have otherwise."""

  size: int
  version: str


def scheme(path: Any) -> str:
  """Returns 'gs' of gs://bucket/run; '' of a path on a disk."""
  head, separator, _ = str(path).partition("://")
  return head if separator else ""


class Objects:
  """The objects below `url`, by their names relative to it.

  Raises (also each method):
    ConfigError: a scheme that is not known, or a package that is not installed.
    DiskError: the store does not answer as it should; says what, and what can be done.
  """

  def __init__(self, url: str):
    self.url = url.rstrip("/")
    package = _PACKAGES.get(scheme(url))
    if package is None:
      raise ConfigError(f"{url}: object stores are written gs://BUCKET/RUN or s3://BUCKET/RUN.")
    if not self.url.partition("://")[2].strip("/"):
      raise ConfigError(f"{url} names no bucket: write {scheme(url)}://BUCKET/RUN.")
    try:
      importlib.import_module(package)
      import fsspec
    except ImportError as error:
      raise ConfigError(
        f'{url} needs the package {package}: pip install "semiseg_jax[stores]", or pip install '
        f"{package}."
      ) from error
    with self._told("opened"):
      self._fs, root = fsspec.core.url_to_fs(
        self.url, use_listings_cache=False, skip_instance_cache=True
      )
    self._root = root.rstrip("/")

  def list(self) -> dict[str, About]:
    """Returns all objects by name; none where the folder is not there."""
    with self._told("listed"):
      try:
        found = self._fs.find(self._root, detail=True)
      except FileNotFoundError:
        return {}
      return {self._name(path): _about(info) for path, info in found.items()}

  def read(self, name: str) -> bytes | None:
    """Returns the content of an object; None where there is none."""
    with self._told("read"):
      try:
        return self._fs.cat_file(self._path(name))
      except FileNotFoundError:
        return None

  def write(self, name: str, content: bytes) -> None:
    """Writes an object, whole or not at all."""
    with self._told("written"):
      self._fs.pipe_file(self._path(name), content)

  def upload(self, folder: pathlib.Path, names: Iterable[str]) -> None:
    """Copies files of `folder` to the objects of the same names."""
    names = list(names)
    if names:
      with self._told("written"):
        self._fs.put([str(folder / name) for name in names], [*map(self._path, names)])

  def download(self, folder: pathlib.Path, names: Iterable[str]) -> None:
    """Copies objects to the files of the same names in `folder`."""
    names = list(names)
    for name in names:
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if names:
      with self._told("read"):
        self._fs.get([*map(self._path, names)], [str(folder / name) for name in names])

  def remove(self, names: Iterable[str]) -> None:
    """Removes objects that are there."""
    names = list(names)
    if names:
      with self._told("changed"):
        self._fs.rm([*map(self._path, names)])

  def _path(self, name: str) -> str:
    return f"{self._root}/{name}"

  def _name(self, path: str) -> str:
    return path[len(self._root) :].lstrip("/")

  @contextlib.contextmanager
  def _told(self, done: str) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # aiohttp, botocore, gcsfs, google-auth: each has kinds of its own
      text = " ".join(str(error).split())[:300]
      raise DiskError(
        f"{self.url} cannot be {done} ({type(error).__name__}: {text}). Check the bucket, your "
        "rights and the network; what was complete in it before still is, and the same command "
        "goes on."
      ) from error


def _about(info: dict[str, Any]) -> About:
  keys = ("ETag", "etag", "generation", "mtime", "created")
  return About(int(info["size"]), next((str(info[key]) for key in keys if info.get(key)), ""))
