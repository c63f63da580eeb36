"""Which mean and std a run takes."""

import types

import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.data.options import IMAGENET_MEAN, IMAGENET_STD
from semiseg_jax.errors import ConfigError
from semiseg_jax.members import Member
from semiseg_jax.training import normalization

IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
GIVEN = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def _info(channels=3, measured=True):
  mean, std = (0.1,) * channels, (0.2,) * channels
  return types.SimpleNamespace(
    name="d",
    channels=channels,
    mean=mean,
    std=std,
    statistics={"pictures": 4, "mean": mean, "std": std} if measured else None,
  )


def _config(pretrained="", family=(), given=None, kind="auto"):
  config = schema.default()
  config.model.pretrained, config.model.family = pretrained, family
  config.data.normalization = kind
  if given:
    config.data.mean, config.data.std = given
  return config


@pytest.mark.parametrize(
  "config,info,expected,reason",
  [
    ({}, _info(), ((0.1,) * 3, (0.2,) * 3), "measured over 4 training pictures"),
    ({}, _info(measured=False), IMAGENET, "no measured ones"),
    ({"pretrained": "w"}, _info(), IMAGENET, "backbone is pretrained"),
    ({"family": ("copies=1", "pretrained=w")}, _info(), IMAGENET, "backbone is pretrained"),
    ({"pretrained": "w"}, _info(5), ((0.1,) * 5, (0.2,) * 5), "are for RGB, not 5"),
    ({"given": GIVEN}, _info(), GIVEN, "config says"),
    ({"given": GIVEN, "pretrained": "w"}, _info(), GIVEN, "config says"),
    ({"kind": "given"}, _info(), IMAGENET, "config says"),
  ],
)
def test_what_is_chosen_and_why(config, info, expected, reason):
  config = _config(**config)
  chosen = normalization.choose(config, info)
  assert (chosen.mean, chosen.std) == expected
  assert reason in str(chosen)
  written = normalization.put(config, chosen)
  assert (written.data.mean, written.data.std) == expected
  assert config.data.mean in (IMAGENET_MEAN, GIVEN[0])  # the caller's is left alone


def test_old_data_of_many_channels_need_numbers():
  info = _info(5, measured=False)
  config = normalization.put(_config(), normalization.choose(_config(), info))
  with pytest.raises(ConfigError, match="prepare it again, which measures them"):
    rules.check_dataset(config, types.SimpleNamespace(info=info))


@pytest.mark.parametrize("own", [((), ()), ((0.5, -1.0, 2.0), (2.0, 0.5, 1.0))])
def test_a_network_of_another_run_sees_what_it_saw_there(own):
  pixels = np.random.default_rng(0).random((7, 3))
  here, there = _config(given=GIVEN).data, _config().data
  shift, scale = own
  seen = (pixels - IMAGENET_MEAN) / IMAGENET_STD * (scale or 1) + (shift or 0)
  member = normalization.seen_by(Member(None, 0, shift, scale), here, there)
  x = (pixels - GIVEN[0]) / GIVEN[1]
  np.testing.assert_allclose(x * member.scale + member.shift, seen, rtol=1e-6)
  same = Member(None, 0, shift, scale)
  assert normalization.seen_by(same, here, here) is same
