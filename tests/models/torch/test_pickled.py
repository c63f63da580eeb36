"""Files of torch and other pickles, without torch: what is read, what is left, what is refused."""

import argparse
import collections
import dataclasses
import datetime
import hashlib
import operator
import os
import pathlib
import pickle
import random
import subprocess
import zipfile

import numpy as np
import pytest

from semiseg_jax.errors import WeightsError
from semiseg_jax.models.torch import pickled as pickled_files
from semiseg_jax.models.torch.files import read_source, read_state_dict
from tests.models.torch.torch_files import Built, Called, Kept, Named, old, pickled, zipped

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
STATE = {"conv.weight": WEIGHT, "conv.bias": np.float16([1.5, -2]), "n": np.array(7)}
EXPECTED = STATE | {"conv.bias": np.float32([1.5, -2])}
FLOAT = Called(Named("numpy", "dtype"), ("f8", False, True), (3, "<", None, None, None, -1, -1, 0))
BEST = Called(Named("numpy.core.multiarray", "scalar"), (FLOAT, np.float64(0.78).tobytes()))
ARGS = Called(Named("argparse", "Namespace"), (), {"lr": 0.1}, new=True)


def _write(path, content):
  path.write_bytes(content)
  return path


def _assert_same(found, expected):
  assert list(found) == list(expected)
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array, strict=True, err_msg=name)


@pytest.mark.parametrize("name", ["x.pth", "x.pth.tar", "x.bin", "x.ckpt", "x.pkl", "x"])
@pytest.mark.parametrize("form", [zipped, old])
def test_the_content_tells_the_format(tmp_path, name, form):
  _assert_same(read_state_dict(_write(tmp_path / name, form(STATE))), EXPECTED)


def test_zips_and_safetensors_under_other_names(tmp_path):
  for name in ("x.ckpt", "x.pth"):
    np.savez(tmp_path / "x.npz", **STATE)
    (tmp_path / "x.npz").rename(tmp_path / name)
    _assert_same(read_state_dict(tmp_path / name), EXPECTED)
  header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
  content = len(header).to_bytes(8, "little") + header + np.float32([3]).tobytes()
  _assert_same(read_state_dict(_write(tmp_path / "x.bin", content)), {"a": np.float32([3])})


# As the authors' trainers save them; the best score is a number of numpy's.
TRAINERS = {
  "UniMatch": {"model": STATE, "optimizer": {"state": {}}, "epoch": 79, "previous_best": BEST},
  "UniMatch V2": {"model": STATE, "model_ema": STATE, "previous_best_ema": BEST},
  "U2PL": {"epoch": 1, "model_state": STATE, "teacher_state": STATE, "best_miou": BEST},
  "CAC": {"arch": "CAC", "state_dict": STATE, "monitor_best": BEST, "config": {"lr": 1}},
  "CCT": {"state_dict": STATE, "monitor_best": BEST, "config": {"model": {"un_loss": "MSE"}}},
}


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_checkpoints_of_trainers(tmp_path, trainer, module):
  best = Called(Named(module, "scalar"), BEST.args)
  content = {k: best if v is BEST else v for k, v in TRAINERS[trainer].items()}
  keys = [k for k, v in content.items() if v is STATE]
  source = read_source(_write(tmp_path / "latest.pth", zipped(content)))
  _assert_same(source.tensors, {f"{k}.{n}": x for k in keys for n, x in EXPECTED.items()})
  assert source.describe_left() == []


OMEGA = Called(
  Named("omegaconf.dictconfig", "DictConfig"), (), {"_content": {"lr": ARGS}, "_parent": None}, True
)
PATH = Called(Named("pathlib", "PosixPath"), ("runs", "a"))
BY_NAME = Called(Named("builtins", "getattr"), (Named("__main__", "Phase"), "TRAIN"))


@pytest.mark.parametrize("form", [zipped, old])
def test_objects_beside_the_tensors_are_named_and_left(tmp_path, form):
  content = {"state_dict": STATE, "args": ARGS, "hyper": {"cfg": OMEGA, "out": PATH, "p": BY_NAME}}
  source = read_source(_write(tmp_path / "x.pth", form(content)))
  _assert_same(source.tensors, {f"state_dict.{name}": x for name, x in EXPECTED.items()})
  assert source.describe_left() == [
    "Not tensors, never run: args (argparse.Namespace), hyper.cfg (omegaconf.dictconfig.DictConfig)"
    ", hyper.out (pathlib.PosixPath), hyper.p (__main__.Phase.TRAIN)"
  ]


def test_a_whole_pickled_network_gives_its_state_dict(tmp_path):
  def module(name, parameters, buffers=None, modules=None, passing=()):
    passing = Called(Named("__builtin__", "set"), (list(passing),))
    state = {"_parameters": parameters, "_buffers": buffers or {}, "_modules": modules or {}}
    state["_non_persistent_buffers_set"] = passing
    return Called(Named("nets", name), (), state, new=True)

  conv = module(
    "Conv", {"weight": WEIGHT, "bias": None}, {"mean": WEIGHT[0], "gone": WEIGHT}, passing=["gone"]
  )
  net = module("Net", {}, {}, {"conv": conv})
  source = read_source(_write(tmp_path / "x.pth", zipped({"net": net})))
  _assert_same(source.tensors, {"net.conv.weight": WEIGHT, "net.conv.mean": WEIGHT[0]})
  assert "net (nets.Net, its tensors taken)" in source.describe_left()[0]


class _Attack:
  def __init__(self, folder):
    self.folder = folder

  def __reduce__(self):
    return os.mkdir, (self.folder,)


def _evaluated(folder):
  return Called(Named("builtins", "eval"), (f"__import__('os').mkdir({folder!r})",))


ATTACKS = {
  "os": lambda folder: Called(Named("posix", "mkdir"), (folder,)),
  "system": lambda folder: Called(Named("os", "system"), (f"mkdir {folder}",)),
  "eval": _evaluated,
  "python2": lambda folder: Called(Named("__builtin__", "eval"), _evaluated(folder).args),
  "new": lambda folder: Called(Named("subprocess", "Popen"), (["mkdir", folder],), new=True),
  "module": lambda folder: Called(Named("importlib", "import_module"), ("antigravity",)),
  "download": lambda folder: Called(Named("urllib.request", "urlretrieve"), ("http://x", folder)),
  "as argument": lambda folder: Called(Named("argparse", "Namespace"), (_evaluated(folder),)),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("form", [zipped, old, pickled])
def test_no_attack_is_run(tmp_path, attack, form):
  folder = str(tmp_path / "made_by_the_file")
  content = {"extra": ATTACKS[attack](folder), "x": 1}
  with pytest.raises(WeightsError, match="x.pth: the file wants to run .*; it was not executed"):
    read_state_dict(_write(tmp_path / "x.pth", form(content)))
  assert not os.path.exists(folder)


HARMLESS = {
  "text": np.array(["a", "b"]),
  "bytes": np.array([b"a"]),
  "records": np.zeros(2, [("a", "i4")]),
  "objects": np.array([None, {}]),
  "range": range(3),
  "itemgetter": operator.itemgetter(1),
  "iterator": iter([1, 2]),
  "zip": zip([1], [2]),
  "error": ValueError("x"),
  "path": pathlib.PurePosixPath("runs/a"),
  "time": datetime.datetime(2024, 1, 2),
  "counter": collections.Counter("aab"),
  "args": argparse.Namespace(lr=1, model=argparse.Namespace(depth=50)),
  "class": argparse.Namespace,
  "machine": os.stat_result(range(10)),
  "ended": subprocess.CompletedProcess("ls", 0),
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_objects_are_skipped_in_every_protocol(tmp_path, kind, protocol):
  content = pickle.dumps({"model": {"w": WEIGHT}, "beside": HARMLESS[kind]}, protocol=protocol)
  source = read_source(_write(tmp_path / "x.pkl", content))
  _assert_same(source.tensors, {"model.w": WEIGHT})
  assert source.left.keys() == {"beside"}


class _State(collections.OrderedDict):
  """As trainers extend it."""

  class Inner:
    """A class inside of a class."""


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_dicts_of_a_class_of_their_own_and_nested_classes(tmp_path, protocol):
  content = {"state": _State(w=WEIGHT), "inner": _State.Inner()}
  source = read_source(_write(tmp_path / "x.pkl", pickle.dumps(content, protocol=protocol)))
  _assert_same(source.tensors, {"state.w": WEIGHT})
  assert source.left["inner"] == f"{__name__}._State.Inner"


class _Average:
  def __init__(self, module):
    self.module, self.decay = module, 0.99


def test_an_object_is_looked_into_where_nothing_else_has_tensors(tmp_path):
  alone = {"ema": _Average({"w": WEIGHT}), "epoch": 1}
  source = read_source(_write(tmp_path / "x.pkl", pickle.dumps(alone)))
  _assert_same(source.tensors, {"ema.module.w": WEIGHT})
  beside = pickle.dumps({"model": {"w": 2 * WEIGHT}, **alone})
  _assert_same(read_source(_write(tmp_path / "x.pkl", beside)).tensors, {"model.w": 2 * WEIGHT})


def test_tensors_that_a_tpu_saved(tmp_path):
  shape = Called(Named("numpy.core.multiarray", "_reconstruct"), (Named("numpy", "ndarray"), (0,)))
  code = Called(Named("numpy", "dtype"), ("f4", False, True))
  array = dataclasses.replace(shape, state=(1, (2, 3), code, False, WEIGHT.tobytes()))
  args = (array, Named("torch", "float32"), "xla:1", False)
  saved = Called(Named("torch._utils", "_rebuild_device_tensor_from_numpy"), args)
  _assert_same(read_state_dict(_write(tmp_path / "x.pth", zipped({"w": saved}))), {"w": WEIGHT})


@pytest.mark.parametrize("protocol", [0, 1])
def test_nothing_of_an_old_pickle_is_run(tmp_path, protocol):
  folder = tmp_path / "made_by_the_file"
  content = pickle.dumps({"w": WEIGHT, "x": _Attack(str(folder))}, protocol=protocol)
  with pytest.raises(WeightsError, match="wants to run (posix|nt).mkdir"):
    read_state_dict(_write(tmp_path / "x.pkl", content))
  assert not folder.exists()


def test_what_an_attribute_of_a_refused_name_gives_is_refused(tmp_path):
  """`getattr` stands for the name of a class inside of a class, and looks nothing up."""
  asked = Called(Named("builtins", "getattr"), (Named("os", "path"), "system"))
  content = pickled({"w": 1, "x": Called(asked, ("true",))})
  with pytest.raises(WeightsError, match=r"wants to run os\.path\.system"):
    read_state_dict(_write(tmp_path / "x.pkl", content))


def test_a_zip_around_a_checkpoint_says_unpack(tmp_path):
  with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
    archive.writestr("best.pth", zipped(STATE))
  with pytest.raises(WeightsError, match="x.pth is a zip archive of best.pth: unpack it"):
    read_state_dict(tmp_path / "x.pth")


def test_the_folder_of_an_unpacked_checkpoint_is_named(tmp_path):
  with zipfile.ZipFile(_write(tmp_path / "x.pth", zipped(STATE))) as archive:
    archive.extractall(tmp_path / "x")
  with pytest.raises(WeightsError, match="folder of an unpacked checkpoint.*zip -0"):
    read_state_dict(tmp_path / "x")


def test_the_usual_attack_is_one_without_us(tmp_path):
  """The same bytes make the folder where Python's own `pickle` loads them."""
  folder = tmp_path / "made_by_the_file"
  content = pickle.dumps({"x": np.ones(2), "extra": _Attack(str(folder))})
  with pytest.raises(WeightsError, match="mkdir"):
    read_state_dict(_write(tmp_path / "x.pkl", content))
  assert not folder.exists()
  pickle.loads(content)
  assert folder.exists()


def test_functions_of_other_packages_are_not_called_either(tmp_path):
  """Such as numpy's, which would: the object is left like any other."""
  folder = str(tmp_path / "made")
  run = Called(Named("numpy.testing._private.utils", "runstring"), (_evaluated(folder).args[0], {}))
  source = read_source(_write(tmp_path / "x.pth", zipped({"a": WEIGHT, "extra": run})))
  assert list(source.tensors) == ["a"] and "runstring" in source.describe_left()[0]
  assert not os.path.exists(folder)


def test_a_pickle_changes_nothing_for_the_next(tmp_path):
  """States set on what stands for functions and classes are refused."""
  for target in (
    Named("torch._utils", "_rebuild_tensor_v2"),
    Named("numpy", "ndarray"),
    Named("nets", "Net"),
    Named("collections", "OrderedDict"),
  ):
    state = (None, {"__call__": 1, "_function": 1, "__new__": 1})
    with pytest.raises(WeightsError, match="no readable pickle"):
      read_state_dict(_write(tmp_path / "x.pkl", pickled(Built(target, state))))
  _assert_same(read_state_dict(_write(tmp_path / "x.pth", zipped(STATE))), EXPECTED)


def test_arrays_of_numpy_in_pickles_are_tensors(tmp_path):
  state = {
    "w": WEIGHT,
    "f": np.asfortranarray(WEIGHT),
    "big": WEIGHT.astype(">f8"),
    "o": np.array([{}]),
  }
  for protocol in (2, 4, 5):
    content = pickle.dumps({"model": state, "__author__": "x"}, protocol=protocol)
    found = read_state_dict(_write(tmp_path / "R-50.pkl", content))
    _assert_same(found, {f"model.{n}": WEIGHT for n in ("w", "f", "big")})


def _rebuilt(size, stride, numel=6, offset=0):
  storage = Kept(("storage", Named("torch", "FloatStorage"), "0", "cpu", numel))
  return Called(
    Named("torch._utils", "_rebuild_tensor_v2"), (storage, offset, size, stride, False, {})
  )


def _one(tensor, raw=bytes(24)):
  return zipped({"x": tensor}, **{"data/0": raw})


@pytest.mark.parametrize(
  "tensor, said",
  [
    (_rebuilt((2**40, 4), (4, 1)), "larger than its 6 numbers"),
    (_rebuilt((2**40,), (0,)), "larger than its 6 numbers"),
    (_rebuilt((2, 3), (3, 1), offset=1), "larger than its 6 numbers"),
    (_rebuilt((2, 3), (3, -1)), "its shape is"),
    (_rebuilt((-2, 3), (3, 1)), "its shape is"),
    (_rebuilt((2, 3), (1,)), "zip"),
    (_rebuilt((2, 3), (3, 1), numel=7), "fewer than 7 numbers"),
    (_rebuilt((0, 2**62), (1, 1)), "too big"),
    (Called(Named("torch._utils", "_rebuild_sparse_tensor"), (1,)), "sparse tensor"),
    (Called(Named("torch._utils", "_rebuild_qtensor"), (1,)), "qtensor"),
  ],
)
def test_tensors_that_cannot_be_are_one_line(tmp_path, tensor, said):
  with pytest.raises(WeightsError, match=f"x.pth: x is no plain tensor .*{said}") as error:
    read_state_dict(_write(tmp_path / "x.pth", _one(tensor)))
  assert "\n" not in str(error.value)


def test_parts_and_turned_views_of_a_storage(tmp_path):
  raw = np.arange(6, dtype=np.float32).tobytes()
  for size, stride, offset, expected in (
    ((3, 2), (1, 3), 0, WEIGHT.T),
    ((3,), (2,), 1, np.float32([1, 3, 5])),
    ((), (), 4, np.float32(4)),
  ):
    content = _one(_rebuilt(size, stride, offset=offset), raw)
    found = read_state_dict(_write(tmp_path / "x.pth", content))
    np.testing.assert_array_equal(found["x"], expected, strict=True)


def _damaged_tensor():
  content = bytearray(zipped({"x": np.arange(500, dtype=np.float32)}))
  content[content.index(np.arange(100, 102, dtype=np.float32).tobytes())] ^= 1
  return bytes(content)


def _twice():
  with pytest.warns(UserWarning, match="Duplicate"):
    return zipped({"x": WEIGHT}, **{"data/0": bytes(24)})


@pytest.mark.parametrize(
  "content, said",
  [
    (_damaged_tensor, "Bad CRC-32 for file 'archive/data/0'"),
    (_twice, "archive/data/0 is in it twice"),
    (lambda: zipped(STATE)[:-30], "not a zip file"),
    (lambda: zipped(STATE).replace(b"little", b"bigbig"), "CRC"),
    (lambda: old(STATE)[:-3], "ends inside of a tensor"),
    (lambda: old(STATE) + b"more", "bytes follow the last tensor"),
    (lambda: pickled(STATE_OF_KEPT), "its tensors lie in another file"),
    (lambda: b"\x80\x03}r\xff\xff\xff\xff.", "puts value 2 in place 4294967295"),
    (lambda: b"\x80\x03}", "exhausted before"),
    (lambda: zipped({"a": {"b": WEIGHT}, "a.b": WEIGHT}), "a.b is in it twice"),
    (lambda: zipped({"a": WEIGHT}, **{"constants.pkl": b""}), "a TorchScript program"),
    (lambda: zipped({"a": 1, "args": ARGS}), r"holds no named tensors, but args \(argparse.Name"),
    (lambda: b"", "is empty"),
    (lambda: b"<!DOCTYPE html>", "a page of HTML"),
    (lambda: b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
    (lambda: b"\x1f\x8b\x08\0", "packed by gzip"),
    (lambda: bytes(257) + b"ustar" + bytes(300), "a tar archive"),
    (lambda: b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (lambda: b"BZh91AY", "packed by bzip2: unpack it"),
    (lambda: b"\x28\xb5\x2f\xfd\0", "packed by Zstandard: unpack it"),
    (lambda: b"\x93NUMPY\x01\0", "one array of numpy.save"),
    (lambda: b"Quota exceeded\nfor", "a text that begins 'Quota exceeded'"),
    (lambda: b"(cat sat.", "a text that begins"),
    (lambda: b"hel\xfflo", "of no known format; possible: .*safetensors"),
  ],
)
def test_damage_and_other_files_are_one_line(tmp_path, content, said):
  with pytest.raises(WeightsError, match=said) as error:
    read_state_dict(_write(tmp_path / "x.pth", content()))
  assert "\n" not in str(error.value) and "--source" in str(error.value)


STATE_OF_KEPT = {"x": _rebuilt((2, 3), (3, 1))}


def test_members_that_are_compressed_are_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("x/data.pkl", pickled({}))
  with pytest.raises(WeightsError, match="compressed, as torch never writes"):
    read_state_dict(tmp_path / "x.pth")


def test_nested_lists_that_repeat_end(tmp_path, monkeypatch):
  monkeypatch.setattr(pickled_files, "MOST", 10**4)
  laughs = b"\x80\x03]q\x00"
  for i in range(40):  # each holds the one before twice: 2**40 in all
    laughs += b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1])
  with pytest.raises(WeightsError, match="more than 10,000 values"):
    read_state_dict(_write(tmp_path / "x.pkl", laughs + b"."))


@pytest.mark.parametrize("form", [zipped, old])
def test_random_damage_is_refused_or_nothing(tmp_path, form):
  """Zips have checksums: their tensors are right or refused.  The old format has none."""
  whole, rng, counts = form(STATE), random.Random(0), collections.Counter()
  for i in range(150):
    content = bytearray(whole)
    if i % 2:
      content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    else:
      content = content[: rng.randrange(len(content))]
    try:
      found = read_state_dict(_write(tmp_path / "x.pth", content))
    except WeightsError:
      counts["refused"] += 1
      continue
    counts["read"] += 1
    if form is zipped:
      _assert_same(found, EXPECTED)
  assert counts["refused"] > 75


def test_a_digest_in_the_name_is_compared(tmp_path):
  content = zipped(STATE)
  digest = hashlib.sha256(content).hexdigest()
  _assert_same(read_state_dict(_write(tmp_path / f"net-{digest[:8]}.pth", content)), EXPECTED)
  for name in ("net-20201231.pth", "step-00012000.ckpt"):
    _assert_same(read_state_dict(_write(tmp_path / name, content)), EXPECTED)
  np.savez(tmp_path / "resnet50-0676ba61.npz", **STATE)
  _assert_same(read_state_dict(tmp_path / "resnet50-0676ba61.npz"), EXPECTED)
  with pytest.raises(WeightsError, match=f"SHA-256 begins with {digest[:8]}, not 0676ba61"):
    read_state_dict(_write(tmp_path / "resnet50-0676ba61.pth", content))
  with pytest.raises(WeightsError, match="not the file of its name"):
    read_state_dict(_write(tmp_path / "Adv-8d75b3f1.pth.tar", content))
