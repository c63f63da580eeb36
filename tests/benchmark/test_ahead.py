"""The account of a step for chips that are not here: what is read of a program, what is said."""

import math
import types

import jax
import pytest
from jax.experimental import topologies

from configs import cps_toy
from semiseg_jax import sharding
from semiseg_jax.benchmark import ahead
from semiseg_jax.errors import ConfigError
from semiseg_jax.training import experiment

PROGRAM = """
  %x = f32[8,4]{1,0:T(8,128)} all-reduce(f32[8,4]{1,0} %p), replica_groups={{0,1}}
  %y = (bf16[2,3]{1,0}, f32[]) all-reduce-start(bf16[2,3] %a, f32[] %b), to_apply=%sum
  %z = (bf16[2,3]{1,0}, f32[]) all-reduce-done((bf16[2,3], f32[]) %y)
  %g = pred[16]{0} all-gather(pred[2]{0} %q), dimensions={0}
  %f = f32[8,4]{1,0} fusion(f32[8,4] %x), calls=%all-reduce.clone
"""


def test_exchanges_are_counted_once_with_their_bytes():
  found = ahead.collectives(PROGRAM)
  assert found == {"all-reduce": (2, 8 * 4 * 4 + 2 * 3 * 2 + 4), "all-gather": (1, 16)}


def test_the_lines_say_what_fits():
  gib = 2**30
  text = ahead.lines(
    {
      "config": "cps_city",
      "topology": "v5e:2x4",
      "chips": 8,
      "seconds": {"trace": 12.4, "compile": 90.0},
      "bytes": {"arguments": gib, "results": 0, "temporaries": 3 * gib, "code": gib // 2},
      "flops": 2.5e12,
      "estimated_seconds": 0.1234,
      "collectives": {"all-reduce": (3, 2**21)},
    }
  )
  assert text[0].startswith("cps_city on 8 chips of v5e:2x4: traced in 12 s, compiled in 90 s")
  assert text[1].startswith("memory of a chip: 4.50 of 16 GiB: arguments 1.00, results 0.00")
  assert text[2].endswith("3 x all-reduce (2.0 MiB)")
  assert text[3:] == [
    "arithmetic of a chip: 2.500 TFLOP",
    "the compiler's estimate, no measurement: 123.4 ms a step",
  ]


def test_without_the_compiler_or_such_a_slice_one_line_says_how_to_get_it(monkeypatch):
  def fails(*_):
    raise RuntimeError("no libtpu.so\nmore")

  monkeypatch.setattr(topologies, "get_topology_desc", fails)
  with pytest.raises(
    ConfigError, match=r'no libtpu.so. The compiler .* `pip install "jax\[tpu\]"`'
  ):
    ahead.described_mesh("v5e:2x4", 1)


def test_a_step_that_is_too_large_says_by_how_much():
  said = ahead.too_large(
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 31.20G of 15.75G hbm. Exceeded hbm capacity by 15.45G.",
    sharding.make_mesh(),
  )
  assert "(31.20G of 15.75G, 1 chips)" in said and "train.accumulate" in said


@pytest.mark.slow
def test_the_account_of_a_step_on_devices_of_this_machine():
  config = cps_toy.get_config("method=supervised")
  config.data.crop = (32, 32)
  mesh = sharding.make_mesh()
  found = ahead.account(config, mesh, classes=4)
  method = experiment.make_method(config, mesh, classes=4, channels=3)
  params = method.stacks["networks"].network.shapes()[0]
  weights = sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  rest = 4 * 32 * 32 * (3 + 1) + 2**15  # pictures, labels, statistics
  assert 2 * weights < found["bytes"]["arguments"] < 2 * weights + rest  # and their momentum
  assert found["chips"] == 1 and set(found["collectives"]) <= {"all-reduce"}


@pytest.mark.slow
def test_a_batch_that_cannot_be_dealt_out_is_refused_before_anything_compiles():
  config = cps_toy.get_config("method=supervised")
  mesh = sharding.make_mesh()
  wide = types.SimpleNamespace(shape={"replica": 1, "data": 3})
  with pytest.raises(ConfigError, match="labeled: a batch of 4 rows cannot be dealt out over 3"):
    ahead.check_rows(experiment.make_method(config, mesh, classes=4, channels=3), wide)
