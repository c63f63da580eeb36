"""Files of state dicts: bytes of .safetensors by hand, all formats there and back, refusals."""

import argparse
import io
import json
import re
import sys
import types
import zipfile

import numpy as np
import pytest

from semiseg_jax.errors import WeightsError
from semiseg_jax.models.torch import files
from semiseg_jax.models.torch.files import read_source, read_state_dict, write_state_dict


def _state():
  rng = np.random.default_rng(0)
  return {
    "b.weight": rng.standard_normal((3, 2, 1, 2)).astype(np.float32),
    "a.running_mean": rng.standard_normal(5).astype(np.float32),
    "a.num_batches_tracked": np.array(12, np.int64),
    "empty": np.zeros((0, 4), np.float32),
  }


def _assert_same(found, expected):
  assert list(found) == list(expected)
  for name, array in expected.items():
    assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
    np.testing.assert_array_equal(found[name], array)


def _safetensors(header, body):
  text = json.dumps(header).encode()
  return len(text).to_bytes(8, "little") + text + body


def _twice(header):
  """The same tensor again under the same name, which the library does not mind."""
  entry = json.dumps(header).encode()[1:-1]
  text = b"{" + entry + b"," + entry + b"}"
  return len(text).to_bytes(8, "little") + text + b"1234"


@pytest.mark.parametrize(
  "suffix",
  [
    ".npz",
    ".safetensors",
    pytest.param(".pth", marks=pytest.mark.extras),
    pytest.param(".pt", marks=pytest.mark.extras),
  ],
)
def test_there_and_back_is_the_identity(tmp_path, suffix):
  if suffix in (".pth", ".pt"):
    pytest.importorskip("torch")
  path = tmp_path / "deep" / f"model{suffix}"
  write_state_dict(path, _state())
  found = read_state_dict(path)
  if suffix == ".safetensors":  # the library sorts them by type and name
    assert list(found) == ["a.num_batches_tracked", "a.running_mean", "b.weight", "empty"]
    found = {name: found[name] for name in _state()}
  _assert_same(found, _state())
  assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_safetensors_by_hand(tmp_path):
  """Half precisions are widened exactly; metadata is no tensor; the order is that of the bytes."""
  header = {
    "__metadata__": {"format": "pt"},
    "brain": {"dtype": "BF16", "shape": [3], "data_offsets": [4, 10]},
    "half": {"dtype": "F16", "shape": [1, 2], "data_offsets": [0, 4]},
    "count": {"dtype": "I64", "shape": [], "data_offsets": [10, 18]},
  }
  half = np.array([1.5, -2], "<f2").tobytes()
  brain = bytes.fromhex("803f 40c0 807f".replace(" ", ""))  # 1, -3, infinity
  path = tmp_path / "x.safetensors"
  path.write_bytes(_safetensors(header, half + brain + (7).to_bytes(8, "little")))
  expected = {
    "half": np.array([[1.5, -2]], np.float32),
    "brain": np.array([1, -3, np.inf], np.float32),
    "count": np.array(7, np.int64),
  }
  _assert_same(read_state_dict(path), expected)


def test_what_we_write_is_what_the_format_says(tmp_path):
  path = tmp_path / "x.safetensors"
  state = _state()
  write_state_dict(path, state)
  data = path.read_bytes()
  start = 8 + int.from_bytes(data[:8], "little")
  header = json.loads(data[8:start])
  assert header.pop("__metadata__") == {"format": "pt"} and start % 8 == 0
  assert {name: entry["dtype"] for name, entry in header.items()} == {
    name: "I64" if "num" in name else "F32" for name in state
  }
  end = 0
  for name, entry in header.items():  # no holes, in order
    begin, end = entry["data_offsets"][0], entry["data_offsets"][1]
    assert data[start + begin : start + end] == state[name].tobytes()
  assert start + end == len(data)


@pytest.mark.parametrize(
  "suffix", [".npz", ".safetensors", pytest.param(".pth", marks=pytest.mark.extras)]
)
def test_arrays_of_any_strides_are_written_as_they_look(tmp_path, suffix):
  if suffix == ".pth":
    pytest.importorskip("torch")
  rows = np.arange(6, dtype=np.float32).reshape(2, 3)
  state = {"turned": rows.T, "part": rows[:, ::2]}
  write_state_dict(tmp_path / f"x{suffix}", state)
  found = read_state_dict(tmp_path / f"x{suffix}")
  for name, array in state.items():
    np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize(
  "content, message",
  [
    (b"", "header too small"),
    ((99).to_bytes(8, "little") + b"{}", "invalid header length"),
    (
      _safetensors({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),
      "file not fully covered",
    ),
    (
      _safetensors({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678"),
      "invalid shape",
    ),
    (
      _safetensors({"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"1"),
      "float8_e4m3fn",
    ),
    (_safetensors({"x": {"dtype": "F32"}}, b""), "shape"),
    (_safetensors("no header", b""), "invalid type: string"),
    (_twice({"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}), "x is in it twice"),
    (
      _safetensors({"x": {"dtype": "U8", "shape": [2**62, 8], "data_offsets": [0, 4]}}, b"1234"),
      "overflow",
    ),
    (
      _safetensors({"x": {"dtype": "U8", "shape": [0, 2**63], "data_offsets": [0, 0]}}, b""),
      "Maximum allowed dimension",
    ),
    ((10**5).to_bytes(8, "little") + b"[" * 10**5, "invalid type: sequence"),
    (
      _safetensors({"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, b"12345"),
      "file not fully covered",
    ),
    (
      _safetensors(
        {
          "x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
          "y": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
        },
        b"123456",
      ),
      "invalid offset for tensor `y`",
    ),
  ],
)
def test_damaged_safetensors_are_refused(tmp_path, content, message):
  path = tmp_path / "x.safetensors"
  path.write_bytes(content)
  with pytest.raises(WeightsError, match="no readable .safetensors file") as error:
    read_state_dict(path)
  assert message in str(error.value)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_an_error_while_writing_leaves_what_was_there(tmp_path, suffix):
  path = tmp_path / f"x{suffix}"
  write_state_dict(path, _state())
  before = path.read_bytes()

  class Unreadable:
    def __array__(self, *args, **options):
      raise RuntimeError("lost")

  with pytest.raises(RuntimeError, match="lost"):
    write_state_dict(path, {"a": np.zeros(3), "x": Unreadable()})
  assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_damaged_npz_is_refused(tmp_path):
  path = tmp_path / "x.npz"
  write_state_dict(path, _state())
  path.write_bytes(path.read_bytes()[:-40])
  with pytest.raises(WeightsError, match="no readable .npz file"):
    read_state_dict(path)


def test_a_flipped_byte_in_a_compressed_npz_is_refused(tmp_path):
  path = tmp_path / "x.npz"
  np.savez_compressed(path, x=np.random.default_rng(0).standard_normal(500))
  content = bytearray(path.read_bytes())
  content[60] ^= 0xFF  # in the code lengths: zlib stops before the checksum is asked
  path.write_bytes(content)
  with pytest.raises(WeightsError, match="no readable .npz file .*decompressing"):
    read_state_dict(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED])
def test_a_flipped_byte_in_an_npz_of_any_compression_is_one_line(tmp_path, method):
  path = tmp_path / "x.npz"
  array = io.BytesIO()
  np.save(array, np.random.default_rng(0).standard_normal(100))
  with zipfile.ZipFile(path, "w", method) as file:
    file.writestr("x.npy", array.getvalue())
  content = path.read_bytes()
  for place in range(50, len(content) - 80, 12):  # behind the version of lzma, which is not read
    path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    with pytest.raises(WeightsError, match="no readable .npz file .*whole[?]$"):
      read_state_dict(path)


@pytest.mark.parametrize("head", ["{'descr':((((", "(" * 9999, "-" * 9999 + "1", "{", "'", "\\"])
def test_the_head_of_an_array_that_is_no_python_is_one_line(tmp_path, head):
  with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
    file.writestr("x.npy", b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head.encode())
  with pytest.raises(WeightsError, match="^[^\n]*no readable .npz file .*whole[?]$"):
    read_state_dict(tmp_path / "x.npz")


def test_an_npz_that_unpacks_to_many_times_its_size_is_refused(tmp_path, monkeypatch):
  np.savez_compressed(tmp_path / "x.npz", x=np.zeros(100_000, np.float32))
  assert read_state_dict(tmp_path / "x.npz")["x"].shape == (100_000,)  # few bytes after all
  monkeypatch.setattr(files, "_ALWAYS", 10_000)
  with pytest.raises(WeightsError, match="made to fill the memory"):
    read_state_dict(tmp_path / "x.npz")


def test_what_is_no_array_in_an_npz_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
    file.writestr("hello.txt", "hi")
  with pytest.raises(WeightsError, match="no readable .npz file .hello.txt is no array"):
    read_state_dict(tmp_path / "x.npz")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_folders_are_refused(tmp_path, suffix):
  (tmp_path / f"x{suffix}").mkdir()
  with pytest.raises(WeightsError, match="is no file"):
    read_state_dict(tmp_path / f"x{suffix}")


def test_arrays_of_objects_are_never_loaded(tmp_path):
  np.savez(tmp_path / "x.npz", x=np.array([print], dtype=object))
  with pytest.raises(WeightsError, match="no readable .npz file"):
    read_state_dict(tmp_path / "x.npz")


def test_absent_files_and_other_suffixes_are_refused(tmp_path):
  with pytest.raises(WeightsError, match="does not exist"):
    read_state_dict(tmp_path / "x.npz")
  with pytest.raises(WeightsError, match="ends in '.h5'; possible: .pth, .pt, .safetensors"):
    write_state_dict(tmp_path / "x.h5", {})


def test_writing_for_torch_without_it_gives_the_pip_line(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  with pytest.raises(WeightsError, match="pip install torch"):
    write_state_dict(tmp_path / "x.pth", {})


@pytest.mark.parametrize("version", ["1.13.1+cu117", "2.5.1", "2.0"])
def test_old_torch_is_refused_by_name(tmp_path, monkeypatch, version):
  monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__=version))
  with pytest.raises(WeightsError, match=re.escape(f"PyTorch {version} is older than 2.6")):
    write_state_dict(tmp_path / "x.pth", {"a": np.zeros(1)})
  assert list(tmp_path.iterdir()) == []


@pytest.mark.extras
def test_names_of_nested_dicts_are_joined_and_half_precision_is_widened(tmp_path):
  torch = pytest.importorskip("torch")
  tensors = {"conv.weight": torch.tensor([[1.5, 3]], dtype=torch.bfloat16), "n": torch.tensor(4)}
  optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
  torch.save({"model": tensors, "optimizer": optimizer, "epoch": 3}, tmp_path / "x.pth")
  expected = {
    "model.conv.weight": np.array([[1.5, 3]], np.float32),
    "model.n": np.array(4),
    "optimizer.state.0.exp_avg": np.zeros(2, np.float32),
  }
  _assert_same(read_state_dict(tmp_path / "x.pth"), expected)


@pytest.mark.extras
def test_what_a_torch_file_holds_besides_tensors_is_left(tmp_path):
  torch = pytest.importorskip("torch")
  content = {"x": torch.zeros(1), "best": np.float64(3), "args": argparse.Namespace(lr=1)}
  for zipped in (True, False):
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    source = read_source(tmp_path / "x.pth")
    _assert_same(source.tensors, {"x": np.zeros(1, np.float32)})
    assert source.left == {"args": "argparse.Namespace"}


@pytest.mark.extras
def test_parameters_of_torch_are_tensors(tmp_path):
  torch = pytest.importorskip("torch")
  torch.save(dict(torch.nn.BatchNorm1d(2).named_parameters()), tmp_path / "x.pth")
  expected = {"weight": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)}
  _assert_same(read_state_dict(tmp_path / "x.pth"), expected)


@pytest.mark.extras
def test_sparse_and_other_tensors_without_plain_numbers_are_named(tmp_path):
  torch = pytest.importorskip("torch")
  for tensor in (torch.eye(3).to_sparse(), torch.empty(2, device="meta")):
    torch.save({"model": {"x": tensor}}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="x.pth: model.x is no plain tensor"):
      read_state_dict(tmp_path / "x.pth")
