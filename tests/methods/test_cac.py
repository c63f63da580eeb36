"""CAC against the training step of its authors: every array of the file, and what is refused."""

import contextlib
import functools
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import cac
from semiseg_jax.models.heads.projection import unit_length
from semiseg_jax.ops import step_bank
from semiseg_jax.ops.directional import classified, directional_contrast, positives
from semiseg_jax.ops.losses import supervised_loss
from semiseg_jax.ops.overlap import matched
from tests import small_network
from tests.golden_files import golden
from tests.ops import directional_loops
from tests.small_network import batch, copy, encode, forward, normalized, upsampled, variables

STRIDE = 8
last = lambda x: jnp.moveaxis(jnp.asarray(x), 1, -1)
first = lambda x: np.moveaxis(np.asarray(x), -1, 1)


@pytest.fixture(scope="module")
def g():
  return golden("cac_loss")


def _case(g, name):
  return {k.removeprefix(name): v for k, v in g.items() if k.startswith(name)}


class Given:
  """A Step whose networks give recorded maps, and whose draws are recorded ones."""

  def __init__(self, arrays, z, memory, phase=("contrast",)):
    self.arrays, self.memory, self.phase, self.logged = arrays, memory, frozenset(phase), {}
    maps = [{"embedding": z[k], "logits": arrays["logits"][k]} for k in range(len(z))]
    self.seen = {"networks": dict(zip(cac.CROPS, maps))}
    self.seen["networks"]["labeled"] = {"logits": arrays["logits_l"]}

  def x(self, stream, strong=0):
    return stream, strong

  def net(self, name, streams):
    crops = cac.CROPS if self.phase else ()
    assert list(streams) == ["labeled", *crops], "the published order of the passes"
    assert streams["labeled"] == ("labeled", 0)
    assert all(streams[name] == (name, 1) for name in crops)
    return {"labeled": self.arrays["logits_l"]}

  def y(self, stream):
    if stream == "labeled":
      return self.arrays["target_l"]
    _, b, h, w, _ = self.arrays["logits"][0].shape
    return jnp.zeros((b, STRIDE * h, STRIDE * w), jnp.uint8)

  def supervised(self, P, y):
    options = {"ohem_threshold": 0.7, "ohem_kept_fraction": 0.1}
    return supervised_loss(P, y, kind="ce", group=0, **options)[0]

  def geometry(self, stream):
    return self.arrays["geometry"]

  def u(self, use, stream, shape, copies):
    return self.arrays["u"][cac.CROPS.index(stream)]

  def weight(self):
    return self.arrays["weight"]

  def groups(self, y):
    return 1

  def align_corners(self, net):
    return True

  def hide_padding(self, stream, Y):
    return Y

  def teaches(self, stream, Y, of):
    assert stream in cac.CROPS and of == cac.CROPS[0]

  def log(self, name, total, count=1.0):
    self.logged[name] = total / count

  def health(self, *args):
    pass

  show = health


def _geometry(case):
  """dy, dx, vh, vw, flips of recorded corners, from which the same corners follow."""
  size = STRIDE * np.array(case["label1"].shape[1:])
  shift, inside = case["ul1"] - case["ul2"], np.maximum(case["br1"], case["br2"])
  for sign, k in ((1, "1"), (-1, "2")):
    assert (np.maximum(0, sign * shift) == case[f"ul{k}"]).all()
    assert (np.minimum(np.minimum(size, size + sign * shift), inside) == case[f"br{k}"]).all()
  return np.concatenate([shift, inside, case["flip"].T], 1).astype(np.int32)


def _draws(case, k):
  """Numbers of which the smallest are at the recorded positions, in their order."""
  u = np.ones(case["label1"].size, np.float32)
  u[case[f"sel{k}"]] = np.arange(len(case[f"sel{k}"])) / case["label1"].size
  return u.reshape(1, *case["label1"].shape)


def _arrays(case, weight):
  return {
    "logits": [last(case[f"logits{k}"])[None] for k in (1, 2)],
    "logits_l": last(case["logits_l"])[None],
    "target_l": jnp.asarray(case["target_l"].astype(np.uint8)),
    "geometry": jnp.asarray(_geometry(case)),
    "u": [jnp.asarray(_draws(case, k)) for k in (1, 2)],
    "weight": jnp.float32(weight),
  }


def _options(g, case, bank):
  """What `_config` takes."""
  temperature, threshold, _ = g["hyper_temp_thr_weight"].tolist()
  assert len(case["sel1"]) == len(case["sel2"])
  sizes = (len(case["label1"]), len(case["sel1"]), bank, case["proj1"].shape[1])
  return (*sizes, temperature, threshold)


def _config(pictures, drawn, bank, width, temperature, threshold):
  c = schema.default()
  c.method.name, c.method.networks, c.train.batch_unlabeled = "cac", 1, pictures
  c.model.projection.width = width
  o = c.method.cac
  o.temperature, o.threshold, o.bank = temperature, threshold, bank
  o.negatives = -(-drawn // pictures)
  o.block = 3000  # the largest recorded case has several blocks, the last of them with padding
  return c


def _memory(pictures, drawn, bank, width, *_):
  return step_bank.empty_bank(1, bank, 2 * drawn, width)


@contextlib.contextmanager
def _drawn(number):
  """Inside, so many pixels enter, which need not be a multiple of the pictures."""
  given = lambda *args, **options: directional_contrast(*args, **{**options, "number": number})
  with mock.patch.object(cac, "directional_contrast", given):
    yield


@functools.partial(jax.jit, static_argnums=0)
def _step(options, proj, arrays, memory):
  """Total and supervised loss, logs, memory; gradients of the rest at proj, at z, at logits."""
  z, of_proj = jax.vjp(lambda proj: [unit_length(p)[None] for p in proj], proj)

  def loss(z, logits):
    s = Given({**arrays, "logits": logits}, z, memory)
    with _drawn(options[1]):
      total = cac.loss(_config(*options), s)
    supervised = s.supervised(arrays["logits_l"], s.y("labeled")).sum()
    return total - supervised, (total, supervised, s.logged, s.memory)

  gradients = jax.grad(loss, (0, 1), has_aux=True)
  (dz, dlogits), found = gradients(z, arrays["logits"])
  return found, of_proj(dz)[0], [d[0] for d in dz], dlogits


def _check(g, name, bank, memory=None):
  """Every recorded array of a case; returns the memory after it."""
  case, weight = _case(g, name), float(g["hyper_temp_thr_weight"][2])
  options = _options(g, case, bank)
  memory = memory or _memory(*options)
  proj = [last(case[f"proj{k}"]) for k in (1, 2)]
  found, dproj, dz, dlogits = _step(options, proj, _arrays(case, weight), memory)
  total, supervised, logged, memory = found
  losses = [logged["contrast_1"], logged["contrast_2"]]
  for key, value in {
    "loss1": losses[0],
    "loss2": losses[1],
    "loss_unsup": weight * sum(losses),
    "loss_sup": supervised,
    "total_loss": total,
  }.items():
    np.testing.assert_allclose(value, case[key], rtol=0, atol=1e-5, err_msg=key)
  for key, gradients in (("grad_proj", dproj), ("grad_norm", dz)):
    for k, gradient in enumerate(gradients, 1):
      expected = case.get(f"{key}{k}")
      if expected is not None:
        size = np.abs(expected).max()
        np.testing.assert_allclose(first(gradient), expected, rtol=0, atol=1e-4 * size)
  assert not any(np.asarray(x).any() for x in dlogits)
  held = np.asarray(memory["held"][0])
  np.testing.assert_array_equal(np.asarray(memory["labels"][0])[held], case["bank_labels"])
  if "bank_feat" in case:
    np.testing.assert_allclose(np.asarray(memory["keys"][0])[held], case["bank_feat"], atol=1e-6)
  return memory


@pytest.mark.slow
def test_consecutive_steps_with_their_bank(g):
  memory, steps = None, sorted({k[:3] for k in g if k[0] == "A" and k[1].isdigit()})
  assert len(steps) > 1
  for name in steps:
    memory = _check(g, name, int(g["A_step_save"]) + 1, memory)


@pytest.mark.slow
def test_more_negatives_than_a_block(g):
  _check(g, "B_", int(g["B_step_save"]) + 1)


@pytest.mark.parametrize("name", ["C0_", "C1_"])
def test_nobody_is_sure_and_everybody_is_of_one_class(g, name):
  _check(g, name, 2)


def test_before_the_start_there_is_cross_entropy_alone(g):
  case, told = _case(g, "C0_"), _case(g, "C2_")
  options = _options(g, case, 2)
  s = Given(_arrays(case, 0.1), [], "untouched", phase=())
  total = cac.loss(_config(*options), s)
  np.testing.assert_allclose(total, told["total_loss"], rtol=0, atol=1e-5)
  np.testing.assert_allclose(total, told["loss_sup"], rtol=0, atol=1e-5)
  assert s.memory == "untouched"


def _cases(g):
  return [name for name in sorted({k.split("_")[0] + "_" for k in g}) if f"{name}proj1" in g]


def test_classes_confidences_and_positives(g):
  """On the overlap, as rows of it one after the other."""
  assert len(_cases(g)) > 2
  threshold = float(g["hyper_temp_thr_weight"][1])
  for name in _cases(g):
    case = _case(g, name)
    maps = [(last(case[f"proj{k}"]), last(case[f"logits{k}"])) for k in (1, 2)]
    crops, overlap, taken = _positives(maps, _geometry(case), threshold)
    for k, crop in enumerate(crops, 1):
      np.testing.assert_array_equal(crop.y, case[f"label{k}"])
      np.testing.assert_allclose(crop.p, case[f"conf{k}"], atol=1e-6)
      found = np.asarray(taken[k - 1])[np.asarray(overlap)]
      np.testing.assert_array_equal(found, case[f"pos_mask{k}"], err_msg=name)


@jax.jit
def _positives(maps, geometry, threshold):
  crops = [classified(z, logits) for z, logits in maps]
  *pair, overlap = matched(*crops, geometry, STRIDE)
  return crops, overlap, [positives(*pair, overlap, threshold) for pair in (pair, pair[::-1])]


# The whole step on the small network.

SIZE, ROWS, CLASSES, WIDTH = (8, 16), 4, 4, 5


def _whole():
  """A config, its method, variables and a batch; strong views leave pictures as they are."""
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.data.strong.update(jitter_p=0.0, blur_p=0.0, gray_p=0.0)
  c.model.projection.kind, c.train.batch_unlabeled = "cac", ROWS
  c.method.update(name="cac", networks=1, weight=0.7, loss_group=2)
  c.method.cac.update(start=0, threshold=0.3, temperature=0.2, negatives=40, block=77)
  method = small_network.method(c, classes=CLASSES, projection=WIDTH)
  b = batch(["labeled", "unlabeled", "second"], size=SIZE, rows=ROWS, classes=CLASSES)
  second = b.pop("second")
  b["labeled"]["label"][0, :3] = 255
  b["unlabeled"]["valid"][2, 2] -= 4
  b["unlabeled"] |= {f"{k}_2": second[k] for k in ("image", "label", "valid")}
  geometry = [(0, 8, *SIZE, 0, 1), (0, 0, 4, 16, 1, 1), (0, -8, *SIZE, 1, 0), (0, 0, *SIZE, 0, 0)]
  b["unlabeled"]["geometry"] = np.array(geometry, np.int32)
  return c, method, variables(method), b


@pytest.mark.slow
def test_a_step_equals_loops():
  c, method, (params, stats), b = _whole()
  bank = method.first_memory()

  @jax.jit
  def run(params, stats, b):
    return method.loss(params, stats, bank, b, jax.random.key(0), 3, frozenset({"contrast"}))

  total, out = run(params, stats, b)
  p, s = copy(params["networks"], 0), copy(stats["networks"], 0)
  y = b["labeled"]["label"].astype(int)
  P, s = forward(p, s, normalized(b["labeled"]), "train")
  P = upsampled(P, SIZE)
  own = np.take_along_axis(P, np.where(y < 255, y, 0)[..., None], -1)[..., 0]
  ce = np.log(np.exp(P).sum(-1)) - own
  expected = np.mean([ce[g][y[g] < 255].mean() for g in (slice(0, 2), slice(2, 4))])
  crops = []
  for suffix in ("", "_2"):  # one after the other
    x = normalized({k: b["unlabeled"][k + suffix] for k in ("image", "valid")})
    features, _ = encode(p, s, x, "train")
    logits, s = forward(p, s, x, "train")
    z = features @ p["projection"]["out"]["kernel"][0, 0] + p["projection"]["out"]["bias"]
    q = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    crops.append((z / np.linalg.norm(z, axis=-1, keepdims=True), q.argmax(-1), q.max(-1)))
  keys = np.concatenate([z.reshape(-1, WIDTH) for z, *_ in crops])
  labels = np.concatenate([y.ravel() for _, y, _ in crops])
  options = {"stride": 2, "groups": 2, "temperature": 0.2, "threshold": 0.3}
  geometry = b["unlabeled"]["geometry"]
  contrast, counts = directional_loops.loss(*crops, geometry, keys, labels, **options)
  assert min(counts) > 5
  np.testing.assert_allclose(total, expected + 0.7 * contrast.sum(), rtol=1e-4)
  small_network.close(jax.tree.map(lambda x: x[0], out.stats["networks"]), s, rtol=1e-3, atol=1e-5)
  positives, overlap = out.metrics["positives"]
  assert (int(positives), int(overlap)) == (
    sum(counts), 2 * len(list(directional_loops.pairs(geometry, (4, 8), 2)))
  )  # fmt: skip
  held = np.asarray(out.memory["cac"]["held"][0])
  assert bank["cac"]["held"].shape == (1, 2, 2 * ROWS * 40)
  assert held.sum(1).tolist() == [0, len(keys)]


# What a config may not ask for, and where classes come from.


def _settings(changes):
  c = schema.default()
  c.data.root, c.data.labeled, c.data.augment, c.data.scales = "d", "l", "cac", (0.5, 2.0)
  c.model.projection.kind, c.train.steps = "cac", 10_000
  c.method.name, c.method.networks = "cac", 1
  c.update_from_flattened_dict(changes)
  return c


def test_a_sound_config():
  rules.validate(_settings({}))


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"model.projection.kind": "none"}, "cac needs embeddings"),
    ({"model.projection.kind": "reco"}, "cac needs unit length"),
    ({"model.family": ("backbone=resnet18",)}, "model.family=.* one kind"),
    ({"method.cac.start": 10_000_000}, "method.cac.start=10000000: below train.steps"),
    ({"train.batch_unlabeled": 6, "method.loss_group": 2}, "method.loss_group=2: the 6 unlabeled"),
    ({"method.compat": ("reference_memory",)}, "reference_memory"),
    ({"method.cac.threshold": 1.0}, "method.cac.threshold=1.0"),
  ],
)
def test_impossible_options(changes, said):
  with pytest.raises(ConfigError, match=said):
    rules.validate(_settings(changes))


@pytest.mark.parametrize(
  "crop, grid", [((32, 32), (2, 2)), ((56, 48), (8, 7)), ((24, 24), (8, 8)), ((8, 8), (16, 16))]
)
def test_a_grid_that_crops_do_not_lie_on_is_refused(crop, grid):
  with pytest.raises(ConfigError, match="a grid of 8 pixels"):
    cac.stride(crop, grid)


def test_strides_of_grids():
  assert [cac.stride((32, 48), (32 // n, 48 // n)) for n in (1, 2, 4, 8)] == [1, 2, 4, 8]


def test_classes_are_those_of_logits_without_dropout_unless_the_quirk_is_asked_for():
  rng = np.random.default_rng(0)
  names = ("logits", "logits_pooled", "logits_undropped")
  maps = {name: jnp.asarray(rng.normal(size=(1, 2, 3, 4, 5))) for name in names}
  maps["embedding"] = jnp.zeros((1, 2, 3, 4, 6))
  s = types.SimpleNamespace(align_corners=lambda net: True)
  for compat, name in (((), "logits_undropped"), (cac.COMPAT, "logits_pooled")):
    found = cac.pixels(_settings({"method.compat": compat}), s, maps)
    np.testing.assert_array_equal(found.y, np.asarray(maps[name]).argmax(-1))
  other = cac.pixels(_settings({}), s, {k: maps[k] for k in ("logits", "embedding")})
  np.testing.assert_array_equal(other.y, np.asarray(maps["logits"]).argmax(-1))
