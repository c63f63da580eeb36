"""The same of every store: of a folder in memory, of S3 and of Google's, both as emulators."""

import os
import sys

import fsspec
import pytest

from semiseg_jax.errors import ConfigError, DiskError
from semiseg_jax.workdir import objects
from semiseg_jax.workdir.objects import Objects
from tests import emulators

SCHEMES = ("memory", *(pytest.param(s, marks=pytest.mark.extras) for s in ("s3", "gs")))


@pytest.fixture(params=SCHEMES, scope="module")
def store(request):
  scheme = request.param
  if package := emulators.missing(scheme):
    pytest.skip(f"{package} is not installed")
  if scheme == "memory":
    fsspec.filesystem("memory").store.clear()
    yield scheme
    return
  with emulators.running(scheme) as variables, pytest.MonkeyPatch.context() as patched:
    for name in variables.keys() - os.environ.keys():
      patched.setenv(name, variables[name])
    yield scheme


def test_objects_come_and_go(store, tmp_path):
  below = Objects(f"{store}://{emulators.BUCKET}/runs/a/")
  beside = Objects(f"{store}://{emulators.BUCKET}/runs/ab")
  beside.write("x", b"another run")
  assert below.list() == {} and below.read("x") is None

  (tmp_path / "deep").mkdir()
  (tmp_path / "deep" / "empty").write_bytes(b"")
  (tmp_path / "large").write_bytes(bytes(range(256)) * 30_000)
  below.upload(tmp_path, ["large", "deep/empty"])
  below.write("deep/text", b"first")
  below.write("deep/text", b"second time")
  sizes = {name: about.size for name, about in below.list().items()}
  assert sizes == {"large": 256 * 30_000, "deep/empty": 0, "deep/text": 11}
  assert below.read("deep/text") == b"second time"

  below.download(tmp_path / "back", ["large", "deep/empty", "deep/text"])
  assert (tmp_path / "back" / "large").read_bytes() == (tmp_path / "large").read_bytes()
  assert (tmp_path / "back" / "deep" / "empty").read_bytes() == b""

  below.remove(["deep/text", "large"])
  below.remove([])
  assert below.list().keys() == {"deep/empty"} and below.read("deep/text") is None
  assert beside.read("x") == b"another run"


def test_what_is_not_there_is_one_line(store, tmp_path):
  below = Objects(f"{store}://{emulators.BUCKET}/runs/none")
  with pytest.raises(DiskError, match="cannot be read .* the same command goes on") as told:
    below.download(tmp_path, ["absent"])
  assert "\n" not in str(told.value)
  if store != "memory":
    with pytest.raises(DiskError, match=f"{store}://absent/run cannot be written"):
      Objects(f"{store}://absent/run").write("x", b"1")


def test_a_package_that_is_missing_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "gcsfs", None)
  with pytest.raises(ConfigError, match=r"gs://b/run needs .* gcsfs: pip install .*\[stores\]"):
    Objects("gs://b/run")


@pytest.mark.parametrize(
  "path, scheme", [("gs://b/r", "gs"), ("s3://b", "s3"), ("runs/a", ""), ("/a:b//c", "")]
)
def test_scheme(path, scheme):
  assert objects.scheme(path) == scheme
