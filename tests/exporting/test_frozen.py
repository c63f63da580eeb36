"""Programs for any size, the file that holds them, and what is refused of files."""

import datetime
import json
import zipfile

import jax
import numpy as np
import pytest
from jax import export

from semiseg_jax import seals
from semiseg_jax.errors import ConfigError, WeightsError
from semiseg_jax.evaluation import inference
from semiseg_jax.exporting import about, container, functions, predicting, promise, tracing
from tests.exporting.tiny_networks import pictures, trained

DAY = datetime.date(2026, 5, 4)


def _valid(images, *box):
  height, width = images.shape[1:3]
  return np.tile(np.int32([box or (0, 0, height, width)]), (len(images), 1))


def test_a_program_of_any_size_answers_as_the_networks_do():
  networks = trained()
  programs = tracing.trace(networks, [0, 1], None)
  weights = functions.weights(networks, [0, 1])
  forward = inference.make_forward(networks, "mean")
  assert programs["segment"].platforms == ("cpu", "cuda", "tpu")
  for images in (pictures(2, 32, 40), pictures(1, 45, 33)):
    expected = np.asarray(forward(images, _valid(images)))
    labels, confidence, p = programs["segment"].call(weights, images)
    np.testing.assert_allclose(p, expected, atol=1e-6)
    np.testing.assert_array_equal(labels, expected.argmax(-1))
    np.testing.assert_allclose(confidence, expected.max(-1), atol=1e-6)
    assert labels.dtype == np.uint8 and len(set(labels.ravel().tolist())) > 1
  inside = _valid(images, 3, 4, 30, 31)
  np.testing.assert_allclose(
    programs["scores"].call(weights, images, inside), forward(images, inside), atol=1e-6
  )
  with pytest.raises(ValueError, match="h >= 32"):
    programs["segment"].call(weights, pictures(1, 31, 40))


def test_one_network_gives_logits_to_windows():
  networks = trained()
  call = jax.jit(functions.scores(networks, [1]))
  images = pictures(1, 32, 32)
  found = call(functions.weights(networks, [1]), images, _valid(images))
  expected = inference.make_forward(networks, "1")(images, _valid(images))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def _about():
  told = about.describe(trained(), network="0", command="semiseg export", run="r", day=DAY)
  return {
    "format": container.FORMAT,
    "format_version": container.VERSION,
    **told,
    "promise": promise.of(DAY),
    "platforms": list(tracing.PLATFORMS),
    "input": {"size": None},
    "scores": "logits",
  }


@pytest.fixture
def file(tmp_path):
  """A file whose programs are none: all but the last check is passed."""
  path = tmp_path / "net.semiseg"
  programs = {"segment": b"no program" * 50, "scores": b"neither" * 50}
  container.write(path, _about(), {"0/params/a": np.arange(99, dtype=np.float32)}, programs)
  return path


def test_a_file_says_how_it_was_made_and_until_when(file):
  with zipfile.ZipFile(file) as archive:
    says = json.loads(archive.read("about.json"))
  assert says["command"] == "semiseg export" and says["trained"]["step"] == 7
  assert says["promise"]["until"] == "2026-11-02" and says["promise"]["jax"] == jax.__version__
  assert says["dataset"]["classes"] == trained().dataset["classes"]
  assert says["normalization"]["mean"] == [0.4, 0.5, 0.6]
  assert says["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize("share", (0.02, 0.3, 0.97, 0.999))
def test_a_file_that_was_cut_is_refused(file, share):
  data = file.read_bytes()
  file.write_bytes(data[: int(share * len(data))])
  with pytest.raises(WeightsError, match="damaged|no exported network"):
    container.read(file)


def test_every_damaged_member_is_found(file):
  data = file.read_bytes()
  for piece in (b'"mean_c'[:5], b"no program", b"neither", b"0/params/a", b'"crop"'):
    at = data.rindex(piece) if piece == b"neither" else data.index(piece)
    file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(WeightsError, match="damaged"):
      container.read(file)


@pytest.mark.parametrize("method", (0, 8, 9, 12, 14, 93, 99))
def test_no_other_method_of_packing_is_tried(file, method):
  data = bytearray(file.read_bytes())
  for head, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
    place = data.index(head) + at
    data[place : place + 2] = method.to_bytes(2, "little")
  file.write_bytes(data)
  said = "cannot read" if method == zipfile.ZIP_STORED else "is damaged .'about.json' is packed"
  with pytest.raises(WeightsError, match=said):
    container.read(file)


def _rewritten(file, **changes):
  """The file with another about.json, under a seal of its own."""
  with zipfile.ZipFile(file) as archive:
    content = {name: archive.read(name) for name in archive.namelist()}
  content["about.json"] = json.dumps(seals.sealed(json.loads(content["about.json"]) | changes))
  with zipfile.ZipFile(file, "w") as archive:
    for name, data in content.items():
      archive.writestr(name, data)


def test_a_changed_sum_is_damage_even_under_a_seal(file):
  with zipfile.ZipFile(file) as archive:
    digests = json.loads(archive.read("about.json"))["sha256"]
  _rewritten(file, sha256={**digests, "weights.safetensors": "0" * 64})
  with pytest.raises(WeightsError, match="SHA-256 of weights.safetensors"):
    container.read(file)


@pytest.mark.parametrize("version, refused", [("0.0.1", True), (jax.__version__, False)])
def test_the_promise_ends_for_other_versions_of_jax_alone(file, version, refused):
  _rewritten(file, promise={"until": "2026-01-31", "jax": version}, versions={"jax": version})
  said = "2026-01-31.*make it anew: semiseg export" if refused else "cannot read what"
  with pytest.raises(WeightsError, match=said):
    container.read(file)


def test_later_formats_and_other_platforms_are_refused(file):
  _rewritten(file, format_version=container.VERSION + 1)
  with pytest.raises(WeightsError, match="format 2, this version of semiseg_jax reads up to 1"):
    container.read(file)
  _rewritten(file, format_version=container.VERSION, platforms=["tpu"])
  with pytest.raises(WeightsError, match="is for tpu, and this is cpu"):
    container.read(file)


def test_foreign_files_are_named(tmp_path):
  (tmp_path / "model.pth").write_bytes(b"\x80\x02}q\x00.")
  with pytest.raises(WeightsError, match="model.pth is no exported network"):
    predicting.parts(tmp_path / "model.pth")
  with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
    archive.writestr("data.pkl", b"")
  with pytest.raises(WeightsError, match="a zip of something else .it holds data.pkl"):
    container.read(tmp_path / "a.zip")
  with pytest.raises(WeightsError, match="there is no file .*gone.semiseg"):
    container.read(tmp_path / "gone.semiseg")


@pytest.mark.parametrize("network, said", [("2", "0 to 1, or 'mean'"), ("-1", "0 to 1")])
def test_no_such_network(network, said):
  with pytest.raises(ConfigError, match=said):
    functions.chosen(trained(), network)


def test_a_program_that_calls_another_is_refused():
  shape = jax.ShapeDtypeStruct((3,), np.float32)
  call = jax.jit(lambda x: jax.ffi.ffi_call("other_program", shape)(x))
  allowed = export.DisabledSafetyCheck.custom_call("other_program")
  program = export.export(call, disabled_checks=[allowed])(shape)
  with pytest.raises(WeightsError, match="calls other_program outside of its program"):
    container.program("a.semiseg", _about(), bytes(program.serialize()))
