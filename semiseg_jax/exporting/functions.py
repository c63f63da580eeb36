"""Inference as pure functions of weights and pictures, without a mesh or a run around them.

Weights are one flat dict, name -> array: `i/params/PATH` and `i/batch_stats/PATH` of the network in
place i of those that were chosen.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from semiseg_jax import members as nets
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.members import Member
from semiseg_jax.ops.preprocess import normalize

Weights = Mapping[str, jax.Array]
KINDS = ("params", "batch_stats")


def chosen(trained: Trained, network: str) -> list[int]:
  """Returns the networks that '0', '1', ... or 'mean' means.

  Raises:
    ConfigError: no such network, or networks that classify whole pictures.
  """
  if trained.labels_pictures:
    raise ConfigError(
      f"{trained.names} says which classes are in a picture, not where: only a PyTorch state dict "
      "(--out=FILE.pth, .safetensors, .npz) can be written of it."
    )
  if network == "mean":
    return list(range(trained.n))
  if network.isdigit() and int(network) < trained.n:
    return [int(network)]
  raise ConfigError(f"--network={network!r}: 0 to {trained.n - 1}, or 'mean' for all as one.")


def weights(trained: Trained, networks: list[int]) -> dict[str, np.ndarray]:
  """Returns the weights of the networks, on the host."""
  flat = {}
  for i, k in enumerate(networks):
    _, *trees = trained.network(k)
    for kind, tree in zip(KINDS, jax.device_get(trees)):
      leaves = traverse_util.flatten_dict(tree, sep="/").items()
      flat |= {f"{i}/{kind}/{path}": np.asarray(leaf)[0] for path, leaf in leaves}
  return flat


def scores(
  trained: Trained, networks: list[int]
) -> Callable[[Weights, jax.Array, jax.Array | None], jax.Array]:
  """Returns (weights, images uint8 [B,H,W,C], valid int32 [B,4] or None) -> float32 [B,H,W,K].

  These are what `inference.make_scores` computes: the logits of one network, of several the mean of
  their probabilities.
  """
  data = trained.config.data
  mean, std = tuple(data.mean), tuple(data.std)
  members = [trained.network(k)[0] for k in networks]

  def call(weights: Weights, images: jax.Array, valid: jax.Array | None) -> jax.Array:
    x = normalize(images, valid, mean, std)
    logits = [_logits(member, weights, i, x) for i, member in enumerate(members)]
    if len(logits) == 1:
      return logits[0]
    return sum(map(jax.nn.softmax, logits)) / len(logits)

  return call


def segment(
  trained: Trained, networks: list[int]
) -> Callable[[Weights, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
  """Returns (weights, images uint8 [B,H,W,C]) -> labels, confidence, probabilities.

  Labels are uint8 [B,H,W]; the confidence is the probability of the label, float32 [B,H,W];
  probabilities are float32 [B,H,W,K].
  """
  make = scores(trained, networks)

  def call(weights: Weights, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    found = make(weights, images, None)
    p = jax.nn.softmax(found) if len(networks) == 1 else found
    return jnp.argmax(found, -1).astype(jnp.uint8), p.max(-1), p

  return call


def _logits(member: Member, weights: Weights, i: int, x: jax.Array) -> jax.Array:
  """Logits [B,H,W,K] of the network in place i for normalized pictures [B,H,W,C]."""
  network, size = member.stack.network, x.shape[1:3]
  params, stats = (_tree(weights, f"{i}/{kind}/", network) for kind in KINDS)
  mode = network.mode("eval")
  features, _ = network.encode(params, stats, nets.seen_by(member, x), mode)
  outputs, _ = network.decode(params, stats, features, mode)
  return nets.full_size([member], [{"images": outputs}], {"images": size})["images"]


def _tree(weights: Weights, prefix: str, network: object) -> dict:
  flat = {
    tuple(name.removeprefix(prefix).split("/")): x
    for name, x in weights.items()
    if name.startswith(prefix)
  }
  return {part: {} for part in network.parts} | traverse_util.unflatten_dict(flat)
