"""Trained networks that no run trained: the smallest that a config can name."""

import functools

import jax
import numpy as np
from jax.sharding import Mesh

from semiseg_jax import stacks
from semiseg_jax.config import schema
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.members import Member
from semiseg_jax.models import network

CLASSES = ["ground", "<b>disc</b>", "box | lid"]
DATASET = {
  "name": "small_city",
  "classes": CLASSES,
  "colors": [[0, 0, 0], [255, 0, 0], [0, 0, 255]],
  "channels": 3,
  "reading": {"exif": "turn"},
  "source_ids": [],
  "fingerprint": "f" * 64,
  "splits": {"labeled": {"name": "labeled_1_8", "ids": 30, "sha256": "a" * 64}},
}


@functools.cache
def trained(copies=2, backbone="tiny", head="fcn"):
  """Networks that disagree, with statistics away from 0 and 1."""
  config = schema.default()
  config.model.backbone, config.model.head = backbone, head
  config.data.mean, config.data.std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
  config.data.crop = (32, 32)
  built = network.build_network(config.model, num_classes=len(CLASSES), in_channels=3)
  mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("replica", "data"))
  stack = stacks.whole("networks", copies, built, mesh)
  rng = np.random.default_rng(0)
  params, stats = stacks.init(stack, 0)
  moved = lambda x: x + np.float32(0.05) * rng.normal(size=x.shape).astype(np.float32)
  params = jax.tree.map(moved, params)
  stats = jax.tree.map(lambda x: x + rng.random(x.shape, np.float32), stats)
  model = config.model.to_dict()
  described = ({"stack": "networks", "copies": copies, "model": model, "shift": (), "scale": ()},)
  trees = jax.device_put(params), jax.device_put(stats)
  trees = ({"networks": tree} for tree in trees)
  return Trained(config, DATASET, 7, (Member(stack),), *trees, described, {"networks": 1})


def pictures(*size, seed=0):
  """uint8 [B,H,W,3] of `size` (B, H, W)."""
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
