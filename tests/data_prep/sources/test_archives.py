import gzip
import io
import os
import pickle
import re
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from data_prep.sources.archives import list_members
from semiseg_jax.errors import DataError
from tests.data import damaged

FILES = {"a/x.png": b"\0\1" * 300, "a/deep/y.txt": b"hello", "z.bin": bytes(range(256)) * 9}


def _folder(path):
  for name, data in FILES.items():
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(data)
  return path


def _zip(path, files=FILES, method=zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, "w", method) as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  return path


def _tar(path, files=FILES, mode="w"):
  with tarfile.open(path, mode) as archive:
    for name, data in files.items():
      _add(archive, name, data)
  return path


def _add(archive, name, data=b"", **fields):
  info = tarfile.TarInfo(name)
  info.size = len(data)
  for key, value in fields.items():
    setattr(info, key, value)
  archive.addfile(info, io.BytesIO(data))


def _read(*paths, **options):
  members = pickle.loads(pickle.dumps(list_members(paths, **options)))
  return {member.name: member.read() for member in members}


def _fails(path, *parts, **options):
  with pytest.raises(DataError) as caught:
    for member in list_members([path], **options):
      member.read()
  for part in (str(path), *parts):
    assert part in str(caught.value)


@pytest.mark.parametrize(
  "make",
  [
    lambda path: _folder(path / "d"),
    lambda path: _zip(path / "a.zip"),
    lambda path: _zip(path / "a.zip", method=zipfile.ZIP_STORED),
    lambda path: _tar(path / "a.tar"),
  ],
  ids=["folder", "deflated", "stored", "tar"],
)
def test_every_kind_of_source(tmp_path, make):
  source = make(tmp_path)
  assert _read(source) == FILES
  members = list_members([source])
  assert [m.name for m in members] == sorted(FILES)
  assert [m.size for m in members] == [len(FILES[name]) for name in sorted(FILES)]
  assert str(source) in members[0].where and "a/deep/y.txt" in members[0].where
  assert list_members([source]) == members, "stamps moved"


def test_stamps_follow_the_content(tmp_path):
  before = [m.stamp for m in list_members([_zip(tmp_path / "a.zip")])]
  after = [m.stamp for m in list_members([_zip(tmp_path / "a.zip", FILES | {"z.bin": b"other"})])]
  assert [a == b for a, b in zip(before, after)] == [True, True, False]
  folder = _folder(tmp_path / "d")
  before = [m.stamp for m in list_members([folder])]
  os.utime(folder / "z.bin", ns=(1, 1))
  after = [m.stamp for m in list_members([folder])]
  assert [a == b for a, b in zip(before, after)] == [True, True, False]


def test_several_sources_and_archives_in_a_folder(tmp_path):
  folder = tmp_path / "d"
  folder.mkdir()
  _zip(folder / "wanted.zip", {"x": b"1"})
  _zip(folder / "other.zip", {"y": b"2"})
  tar = _tar(tmp_path / "t.tar", {"z": b"3"})
  found = _read(folder, tar, nested=re.compile("wanted.*"))
  assert set(found) == {"other.zip", "x", "z"} and found["x"] == b"1"


def test_hidden_files_are_left_out(tmp_path):
  files = {
    "__MACOSX/x.png": b"1",
    ".git/x": b"2",
    "a/.DS_Store": b"3",
    "@eaDir/y": b"5",
    "./b/x": b"4",
  }
  assert _read(_zip(tmp_path / "a.zip", files)) == {"b/x": b"4"}
  assert _read(_tar(tmp_path / "a.tar", files)) == {"b/x": b"4"}


def test_folder_links_in_a_circle(tmp_path):
  folder = _folder(tmp_path / "d")
  (folder / "a/up").symlink_to(folder, target_is_directory=True)
  (folder / "dangling").symlink_to(folder / "nothing")
  assert _read(folder) == FILES


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:/x", "..\\x"])
def test_names_that_leave_the_archive(tmp_path, name):
  _fails(_zip(tmp_path / "a.zip", {name: b"1"}), repr(name), "outside")
  _fails(_tar(tmp_path / "a.tar", {name: b"1"}), repr(name), "outside")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name(tmp_path):
  with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
    for name in ("x/y", "x/y", "../q", "x/./y"):
      archive.writestr(name, "1")
  _fails(tmp_path / "a.zip", "'x/y' is there twice", "'../q' lies outside")
  with tarfile.open(tmp_path / "a.tar", "w") as archive:
    _add(archive, "x", b"1")
    _add(archive, "x", b"2")
  _fails(tmp_path / "a.tar", "'x' is there twice")


def test_links_in_a_tar(tmp_path):
  with tarfile.open(tmp_path / "a.tar", "w") as archive:
    _add(archive, "a/x", b"content")
    _add(archive, "b/soft", type=tarfile.SYMTYPE, linkname="../a/x")
    _add(archive, "b/hard", type=tarfile.LNKTYPE, linkname="a/x")
  found = _read(tmp_path / "a.tar")
  assert found == {"a/x": b"content", "b/soft": b"content", "b/hard": b"content"}


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd", "nothing", "loop"])
def test_links_that_leave_the_archive(tmp_path, target):
  with tarfile.open(tmp_path / "a.tar", "w") as archive:
    _add(archive, "loop", type=tarfile.SYMTYPE, linkname=target)
  _fails(tmp_path / "a.tar", "'loop' is a link to")
  info = zipfile.ZipInfo("loop")
  info.external_attr = (stat.S_IFLNK | 0o777) << 16
  with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
    archive.writestr(info, target)
  _fails(tmp_path / "a.zip", "'loop' is a link to")


def test_devices_in_a_tar(tmp_path):
  with tarfile.open(tmp_path / "a.tar", "w") as archive:
    _add(archive, "null", type=tarfile.CHRTYPE)
  _fails(tmp_path / "a.tar", "'null' is no plain file")


def test_encrypted_zip(tmp_path):
  path = _zip(tmp_path / "a.zip", {"x": b"secret"})
  data = bytearray(path.read_bytes())
  data[data.index(b"PK\1\2") + 8] |= 1
  path.write_bytes(data)
  _fails(path, "'x' is encrypted")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("make", [_zip, _tar])
def test_truncated_archives(tmp_path, make, share):
  path = make(tmp_path / "archive")
  data = path.read_bytes()
  path.write_bytes(data[: int(share * len(data.rstrip(b"\0")))])
  _fails(path, "download it again")


def test_a_tar_cut_between_its_members(tmp_path):
  path = _tar(tmp_path / "a.tar")
  path.write_bytes(path.read_bytes()[:1536])  # header and content of the first
  _fails(path, "its end is missing")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_changed_bytes_of_a_zip(tmp_path, method):
  path = _zip(tmp_path / "a.zip", {"x": bytes(1000)}, method)
  data = bytearray(path.read_bytes())
  data[32] ^= 0x55  # in the content
  path.write_bytes(data)
  _fails(path, "a.zip:x: truncated or damaged")


def test_a_zip_whose_index_names_another_member(tmp_path):
  path = tmp_path / "a.zip"
  _zip(path)
  data = bytearray(path.read_bytes())
  data[data.rindex(list_members([path])[0].name.encode())] ^= 1
  path.write_bytes(data)
  with pytest.raises(DataError, match="its own head calls it"):
    [member.read() for member in list_members([path])]


def test_a_zip_that_unpacks_to_more_than_it_says(tmp_path):
  path = _zip(tmp_path / "a.zip", {"x": bytes(1000)})
  data = bytearray(path.read_bytes())
  size = data.index(b"PK\1\2") + 24
  data[size : size + 4] = (10).to_bytes(4, "little")
  path.write_bytes(data)
  _fails(path, "a.zip:x: truncated or damaged")


def test_other_compression(tmp_path):
  _fails(_zip(tmp_path / "a.zip", method=zipfile.ZIP_BZIP2), "compression 12; pack it again")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_tars(tmp_path, kind):
  path = _tar(tmp_path / f"a.tar.{kind}", mode=f"w:{kind}")
  _fails(path, "front to back", "-k ")
  assert _read(path, held=re.compile("deep/")) == {"a/deep/y.txt": b"hello"}
  data = path.read_bytes()
  path.write_bytes(data[:-10])
  _fails(path, "truncated or damaged", held=re.compile("deep/"))


def test_a_compressed_tar_too_large_to_hold(tmp_path, monkeypatch):
  monkeypatch.setattr("data_prep.sources.archives._HELD_BYTES", 1000)
  _fails(
    _tar(tmp_path / "a.tgz", mode="w:gz"), "to be held in memory", "gunzip", held=re.compile("")
  )


def test_no_archive(tmp_path):
  (tmp_path / "x.zip").write_bytes(b"<html>please log in</html>")
  _fails(tmp_path / "x.zip", "neither a folder nor")
  _fails(tmp_path / "nothing.zip", "correct the path")


def test_a_file_that_goes_away(tmp_path):
  members = list_members([_folder(tmp_path / "d")])
  (tmp_path / "d/z.bin").unlink()
  with pytest.raises(DataError, match="d/z.bin: cannot be read"):
    members[-1].read()


def test_an_archive_that_becomes_shorter(tmp_path):
  path = _tar(tmp_path / "a.tar")
  members = list_members([path])
  path.write_bytes(path.read_bytes()[:600])
  with pytest.raises(DataError, match="a.tar:a/x.png: truncated or damaged"):
    members[1].read()


def test_links_in_a_compressed_tar_are_those_of_a_tar(tmp_path):
  def write(archive):
    _add(archive, "b/soft_x", type=tarfile.SYMTYPE, linkname="../a/picture")
    _add(archive, "a/picture", b"content")
    _add(archive, "a/other", b"not asked for")
    _add(archive, "b/hard_x", type=tarfile.LNKTYPE, linkname="a/picture")

  for kind, suffix in (("", "tar"), (":gz", "tgz")):
    with tarfile.open(tmp_path / f"a.{suffix}", f"w{kind}") as archive:
      write(archive)
  linked = {"b/soft_x": b"content", "b/hard_x": b"content"}
  assert _read(tmp_path / "a.tgz", held=re.compile("_x$")) == linked
  assert _read(tmp_path / "a.tgz", held=re.compile("")) == _read(tmp_path / "a.tar")


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd", "nothing", "loop"])
def test_links_that_leave_a_compressed_tar(tmp_path, target):
  with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
    _add(archive, "loop", type=tarfile.SYMTYPE, linkname=target)
    _add(archive, "null", type=tarfile.CHRTYPE)
  for held in ("loop", "other"):
    _fails(tmp_path / "a.tgz", "'loop' is a link to", "no plain file", held=re.compile(held))


@pytest.mark.parametrize("make", [_zip, _tar])
def test_a_member_is_bounded(tmp_path, make, monkeypatch):
  monkeypatch.setattr("data_prep.sources.archives._MEMBER_BYTES", 599)
  _fails(make(tmp_path / "a"), "a:a/x.png: ", "above the limit", "unpack the archive")


def test_sizes_that_no_file_has_fill_no_memory(tmp_path):
  path = _zip(tmp_path / "a.zip", {"x": bytes(1000)}, zipfile.ZIP_STORED)
  data = bytearray(path.read_bytes())
  for at in (20, 24):  # packed and unpacked, of the index
    place = data.index(b"PK\1\2") + at
    data[place : place + 4] = (0x3FFFFFFF).to_bytes(4, "little")
  path.write_bytes(data)
  _fails(path, "a.zip:x: truncated or damaged")


def test_a_link_in_a_zip_is_a_short_text(tmp_path):
  info = zipfile.ZipInfo("loop")
  info.external_attr, info.compress_type = (stat.S_IFLNK | 0o777) << 16, zipfile.ZIP_DEFLATED
  with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
    archive.writestr(info, "x" * 10_000_000)
  with pytest.raises(DataError, match="'loop' is a link to") as caught:
    list_members([tmp_path / "a.zip"])
  assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_long_names_of_a_tar_are_bounded(tmp_path, kind, suffix):
  with tarfile.open(tmp_path / f"a.{suffix}", "w:gz" if suffix == "tgz" else "w") as archive:
    _add(archive, "x", bytes(2 << 20), type=kind)
  _fails(tmp_path / f"a.{suffix}", "a name or comment of", held=re.compile(""))


SMALL = {"a/x.png": b"\0\1" * 300, "b.txt": b"hello", "c.bin": bytes(range(256))}
KINDS = [
  *((_zip, {"method": method}) for method in (0, 8, 12, 14)),  # as is, deflate, bzip2, lzma
  *((_tar, {"mode": f"w{kind}"}) for kind in ("", ":gz", ":bz2", ":xz")),
]


@pytest.mark.parametrize("size", [10**15, -1, -1536])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, b"?"])
@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_members_of_a_size_that_cannot_be_are_named_at_once(tmp_path, suffix, kind, size):
  path = tmp_path / f"x.{suffix}"
  with tarfile.open(path, "w:gz" if suffix == "tgz" else "w", format=tarfile.PAX_FORMAT) as archive:
    _add(archive, "a.png", b"12", type=kind, pax_headers={"size": str(size)})
    _add(archive, "b.png", b"12")
  _fails(path, "damaged (member 'a.png'", f"{size:,} bytes", held=re.compile("png"))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_a_chain_of_heads_is_one_line(tmp_path, suffix, kind):
  head = tarfile.TarInfo("long")
  head.type, head.size = kind, 2
  content = (head.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")) * 1500
  (tmp_path / f"x.{suffix}").write_bytes(gzip.compress(content) if suffix == "tgz" else content)
  _fails(tmp_path / f"x.{suffix}", "truncated or damaged", held=re.compile("png"))


@pytest.mark.parametrize("make, options", KINDS)
def test_no_damage_gives_other_content_or_anything_but_its_name(tmp_path, make, options):
  path, rng, refused = tmp_path / "archive", np.random.default_rng(13), 0
  whole = make(path, SMALL, **options).read_bytes()
  for damage in damaged.damages(whole, 60, rng):
    path.write_bytes(damage)
    try:
      found = _read(path, held=re.compile(""))
    except DataError as error:
      refused += 1
      assert str(path) in str(error)
      continue
    if make is not _tar or options["mode"] != "w":  # a plain tar has no checksums of contents
      assert set(found.values()) <= set(SMALL.values())
  assert refused > 20
