"""Exports as commands write them: whole or not at all, run again from a clean process."""

import os

import jax
import numpy as np
import pytest

from semiseg_jax import export, predict
from semiseg_jax.errors import ConfigError, WeightsError
from semiseg_jax.evaluation import inference
from semiseg_jax.exporting import check, clean_run, kinds, networks, onnx_file, onnx_shapes
from semiseg_jax.exporting.staging import staged
from tests.exporting.tiny_networks import CLASSES, pictures, trained


@pytest.fixture(autouse=True)
def _a_run(monkeypatch):
  monkeypatch.setattr(inference, "load_trained", lambda *_: trained())


@pytest.mark.parametrize(
  "options, said",
  [
    ({"out": "a.h5"}, "ends in '.h5'; possible: .semiseg, .onnx, .pth"),
    ({"out": "a.npz", "size": (64, 64)}, "--size is of .semiseg and .onnx"),
    ({"out": "a.semiseg", "network": "all"}, "'mean' joins them"),
    ({"out": "a.npz", "network": "mean"}, "'all' writes every one"),
    ({"out": "a.semiseg", "network": "2"}, "0 to 1, or 'mean'"),
  ],
)
def test_impossible_options_write_nothing(options, said, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigError, match=said):
    export.export("run", **options)
  assert not os.listdir(tmp_path)


def test_a_network_that_pytorch_does_not_have_is_an_option_that_cannot_be_used(tmp_path, capsys):
  out = tmp_path / "a.safetensors"
  with pytest.raises(SystemExit) as ended:
    export.main([f"--workdir={tmp_path}", f"--out={out}", "--check=no"])
  assert ended.value.code == 2 and "cannot be a PyTorch state dict" in capsys.readouterr().err
  assert not os.listdir(tmp_path)


def test_what_fails_leaves_what_was_there(tmp_path):
  (tmp_path / "a.npz").write_text("old")
  with pytest.raises(ZeroDivisionError), staged(str(tmp_path / "a.npz")) as path:
    path.write_text("new")
    raise ZeroDivisionError
  assert os.listdir(tmp_path) == ["a.npz"] and (tmp_path / "a.npz").read_text() == "old"
  with staged(str(tmp_path / "hub") + "/", folder=True) as path:
    (path / "README.md").write_text("new")
  assert (tmp_path / "hub" / "README.md").read_text() == "new"
  with pytest.raises(ConfigError, match="is not empty"), staged(str(tmp_path / "hub"), folder=True):
    pass
  assert sorted(os.listdir(tmp_path)) == ["a.npz", "hub"]


@pytest.mark.parametrize("wrong", ["p", "labels", "nan"])
def test_an_answer_that_differs_is_refused(wrong, monkeypatch):
  p = np.float32([[[[0.5, 0.3, 0.2], [0.35, 0.34999, 0.3]]]])
  labels, q = np.uint8([[[0, 1]]]), p + np.float32(1e-6)  # the second pixel is a tie
  monkeypatch.setattr(check, "pictures", lambda *_: [None])
  monkeypatch.setattr(check, "own", lambda *_: p)
  monkeypatch.setattr(check, "clean_run", lambda *_: [(labels, q)])
  assert "labels by 1 of 2" in check.check("a.onnx", trained(), "0", kind="onnx")
  if wrong == "labels":
    labels[0, 0, 0] = 1
  else:
    q[0, 0, 0, 2] += {"p": 2e-4, "nan": np.nan}[wrong]
  with pytest.raises(WeightsError, match="is not kept"):
    check.check("a.onnx", trained(), "0", kind="onnx")


def test_a_state_dict_becomes_the_same_network_again():
  ours = trained(1, "resnet18", "fcn")
  state, about = kinds.state_dict(ours, "all"), networks.describe(ours, [0])
  weights = clean_run.renamed(ours.members[0], state, 0, "branch1.")
  found = networks.rebuild(about, weights, ours.mesh)
  for tree, expected in ((found.params, ours.params), (found.batch_stats, ours.batch_stats)):
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
      np.testing.assert_array_equal(a, b)


def test_onnx_is_for_one_picture_where_any_number_fails(monkeypatch, capsys):
  written = []

  def write(path, trained, networks, size, about, batch):
    written.append(batch)
    return 9

  def run(*_, batch, **__):
    if batch > 1:
      raise WeightsError("a Reshape fails")
    return "run again"

  monkeypatch.setattr(onnx_file, "write", write)
  monkeypatch.setattr(kinds, "check", run)
  said = kinds.to_onnx("a.onnx", trained(), "0", {}, None, True)
  assert written == [None, 1] and "NOTE a Reshape fails" in capsys.readouterr().out
  assert said == ["an ONNX graph of 9 nodes for one picture of 32x32", "run again"]


@pytest.mark.slow
def test_a_hub_folder_predicts_as_the_run_does(tmp_path):
  said = export.export(str(tmp_path / "run"), str(tmp_path / "hub"), network="all", hub_folder=True)
  assert "run again from a clean process" in said and "labels by 0 of" in said
  own = np.asarray(
    inference.make_forward(trained(), "0")(pictures(1, 40, 48), np.int32([[0, 0, 40, 48]]))
  )
  predictor = predict.load_predictor(str(tmp_path / "hub"), mode="whole", whole="as_is")
  assert predictor.classes == tuple(CLASSES)
  np.testing.assert_array_equal(predictor(pictures(1, 40, 48)[0]), own[0].argmax(-1))


@pytest.mark.slow
@pytest.mark.parametrize("network, size", [("mean", None), ("1", (40, 48))])
def test_a_frozen_file_predicts_as_the_run_does(network, size, tmp_path):
  out = str(tmp_path / "net.semiseg")
  said = export.export(str(tmp_path / "run"), out, network=network, size=size)
  assert "run again from a clean process" in said and "takes 3 channels" in said
  images = [pictures(1, 40, 48)[0], pictures(1, 36, 33)[0]]  # the second one is padded
  how = {"window": size} if size else {"mode": "whole", "whole": "as_is"}
  predictor = predict.load_predictor(out, **how)
  run = inference.make_forward(trained(), network, probabilities=True)
  for image in images:
    canvas = np.zeros((*(size or image.shape[:2]), 3), np.uint8)
    top, left = ((a - b) // 2 for a, b in zip(canvas.shape, image.shape[:2]))
    part = np.s_[top : top + image.shape[0], left : left + image.shape[1]]
    canvas[part] = image
    box = np.int32([[top, left, top + image.shape[0], left + image.shape[1]]])
    expected = np.asarray(run(canvas[None], box))[0][part]
    found = predictor.predict(image)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(predictor(image), expected.argmax(-1))
  with pytest.raises(ConfigError, match="holds network '.*' and no other"):
    predict.load_predictor(out, network="0")
  if size:
    with pytest.raises(ConfigError, match="exported with --size=40x48"):
      predict.load_predictor(out, mode="whole")


@pytest.mark.slow
@pytest.mark.extras
def test_an_onnx_file_answers_as_the_network_does(tmp_path):
  onnx = pytest.importorskip("onnx")
  pytest.importorskip("jax2onnx")
  onnxruntime = pytest.importorskip("onnxruntime")
  out = tmp_path / "net.onnx"
  said = export.export(str(tmp_path / "run"), str(out), size=(33, 40))
  assert "run again from a clean process" in said
  model = onnx.load(out)
  assert [v.name for v in model.graph.output] == ["labels", "confidence", "probabilities"]
  assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "B"
  session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
  assert [v.shape for v in session.get_outputs()] == [["B", 33, 40]] * 2 + [["B", 33, 40, 3]]
  assert '"command": "python -m semiseg_jax.export' in model.metadata_props[0].value


@pytest.mark.extras
def test_onnxruntime_knows_that_the_batch_of_a_resize_is_free():
  onnx = pytest.importorskip("onnx")
  onnxruntime = pytest.importorskip("onnxruntime")
  make, number = onnx.helper, onnx.TensorProto.FLOAT
  matrix = np.float32([[1, 0], [0.5, 0.5], [0, 1]])
  constants = {"matrix": matrix, "axes": np.int64([0])}
  graph = make.make_graph(
    [
      make.make_node("Unsqueeze", ["matrix", "axes"], ["wide"]),
      make.make_node("Einsum", ["wide", "x"], ["y"], equation="...oh,...hwc->...owc"),
    ],
    "resize",
    [make.make_tensor_value_info("x", number, ["B", 2, 4, 1])],
    [make.make_tensor_value_info("y", number, ["B", 3, 4, 1])],
    [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
  )
  model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10)
  x = np.random.default_rng(0).random((3, 2, 4, 1), np.float32)

  onnx_shapes.name_axes(model.graph)
  onnx.checker.check_model(model, full_check=True)
  providers = ["CPUExecutionProvider"]
  session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
  (y,) = session.run(None, {"x": x})
  assert session.get_outputs()[0].shape == ["B", 3, 4, 1]
  np.testing.assert_allclose(y, np.stack([x[:, 0], x.mean(1), x[:, 1]], 1), rtol=1e-6)
  assert [node.op_type for node in model.graph.node] == ["Einsum"]
