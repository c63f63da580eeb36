"""Convolution and batch normalization with PyTorch's arithmetic, and the mode they run in."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import by_parts, initializers, platforms
from semiseg_jax.models.depthwise import Geometry, depthwise
from semiseg_jax.models.remat import product
from semiseg_jax.ops import symbolic

BN_MODES = ("train", "batch", "eval")


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
  """Where the dropouts of one call get their masks; two of them are never equal.

  Attributes:
    keys: one random key per image of the local batch [B], or None.
    masks: path of the dropout's module -> what to keep, bool or 0/1, broadcast to [B,h,w,C]; asked
      before the keys.
  """

  keys: jax.Array | None = None
  masks: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)

  def keep(self, path: str, shape: tuple[int, ...], rate: float) -> jax.Array:
    """Returns a bool mask of `shape` [B,...], True with probability 1 - rate."""
    if path in self.masks:
      return self.masks[path].astype(bool)
    if self.keys is None:
      raise ValueError(f"Dropout {path}: no mask was given; there are {sorted(self.masks)}.")
    word = zlib.crc32(path.encode())
    draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, word), 1 - rate, shape[1:])
    return jax.vmap(draw)(self.keys)

  def uniform(self, path: str, shape: tuple[int, ...]) -> jax.Array:
    """Returns float32 numbers of [-1, 1), `shape` [B,...]; 0 where only masks were given."""
    if path in self.masks or self.keys is None:
      return self.masks.get(path, jnp.zeros(shape, jnp.float32))
    word = zlib.crc32(path.encode())
    draw = lambda key: jax.random.uniform(
      jax.random.fold_in(key, word), shape[1:], jnp.float32, -1, 1
    )
    return jax.vmap(draw)(self.keys)


@dataclasses.dataclass(frozen=True)
class Mode:
  """How one call of a network runs.

  Attributes:
    bn: 'train' normalizes with the statistics of the batch and moves the running ones, 'batch' does
      the same and leaves them, 'eval' normalizes with the running ones.
    groups: sizes of the groups along the LOCAL batch axis, in order; they add up to it.  Each group
      has its own statistics and moves the running ones once.  Not read in 'eval'.
    axes: mesh axes over which statistics are reduced (inside `jax.shard_map`); every device must
      hold equally many images of each group.
    span: how many devices, next to each other along `axes`, share a group; 0: all of them.  The
      running statistics then move once per group of every block of devices, in order, everywhere.
    dtype: of activations and kernels.  Statistics and logits are float32 at least; float64 inputs
      are computed in float64 throughout.
    draws: masks of the dropouts; None: they pass everything on.
    biased_variance: the running variances move towards the biased ones (PaddlePaddle, Flax)
      instead of the unbiased ones (PyTorch).
  """

  bn: str
  groups: tuple[int, ...] = ()
  axes: tuple[str, ...] = ()
  dtype: Any = jnp.float32
  draws: Draws | None = None
  biased_variance: bool = False
  span: int = 0

  def __post_init__(self):
    if self.bn not in BN_MODES:
      raise ValueError(f"Mode.bn is {self.bn!r}; use one of {BN_MODES}.")

  def cast(self, x: jax.Array, like: jax.Array | None = None) -> jax.Array:
    """Casts `x` to the compute dtype, or to float64 where `like` (default: x) is float64."""
    like = x if like is None else like
    return x.astype(jnp.float64 if like.dtype == jnp.float64 else self.dtype)

  def in_float32(self) -> "Mode":
    """The same mode, computing in float32."""
    return dataclasses.replace(self, dtype=jnp.float32)


def relu6(x: jax.Array) -> jax.Array:
  """min(max(x, 0), 6) with gradient 0 at both corners, as PyTorch has it."""
  return jnp.where(x >= 6, jnp.asarray(6, x.dtype), jax.nn.relu(x))


def leaky_relu(x: jax.Array, slope: float = 0.01) -> jax.Array:
  """LeakyReLU with gradient `slope` at 0, as PyTorch has it."""
  return jnp.where(x > 0, x, slope * x)


def max_pool(
  x: jax.Array, window: int, stride: int, padding: int, *, ceil_mode: bool = False
) -> jax.Array:
  """Maximum over window x window pixels of `x` [B,H,W,C], padded with minus infinity.

  With `ceil_mode` the size is rounded up, unless the last window had only padding, as PyTorch does.
  """
  pads = [(padding, padding)] * 2
  if ceil_mode:
    pads = [(padding, padding + _ceil_padding(n, window, stride, padding)) for n in x.shape[1:3]]
  if platforms.is_onnx():  # whose converter pads no pools
    x, pads = _repeated(_repeated(x, 1, *pads[0]), 2, *pads[1]), [(0, 0)] * 2
  elif not symbolic.is_known(*pads[0], *pads[1]):
    x, pads = _padded(x, pads, -jnp.inf), [(0, 0)] * 2
  strides = (stride, stride)
  return nn.max_pool(x, window_shape=(window, window), strides=strides, padding=pads)


def _ceil_padding(size: int, window: int, stride: int, padding: int) -> int:
  """What ceil mode adds at the end of an axis."""
  windows = -((window - size - 2 * padding) // stride) + 1
  if padding > window - stride and (windows - 1) * stride >= size + padding:
    return 0
  return (windows - 1) * stride + window - size - 2 * padding


def _repeated(x: jax.Array, axis: int, before: int, after: int) -> jax.Array:
  """`x` with its first and last entries repeated: no maximum of a window changes by it."""
  first, last = (lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, x.shape[axis] - 1))
  return jnp.concatenate([first] * before + [x] + [last] * after, axis)


def _padded(x: jax.Array, pads: list[tuple], value: float = 0) -> jax.Array:
  """`x` [B,H,W,C] with `value` around it; operations take no symbols as their padding."""
  filling = jnp.asarray(value, x.dtype)
  return lax.pad(x, filling, [(a, b, 0) for a, b in ((0, 0), *pads, (0, 0))])


def average_pool(x: jax.Array, window: int) -> jax.Array:
  """Mean over blocks of window x window pixels of `x` [B,H,W,C]; what is left over is dropped."""
  return nn.avg_pool(x, (window, window), (window, window))


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
  """Zeros (before, after) an axis for ceil(size / stride) outputs, the odd one at the end.

  The "same" padding of TensorFlow and PaddlePaddle; at stride 2 on even sizes it is not k // 2.
  """
  span = dilation * (kernel - 1) + 1
  total = (-(-size // stride) - 1) * stride + span - size
  if symbolic.is_known(size) or stride > span:
    total = max(total, 0)
  return total // 2, total - total // 2


class Conv(nn.Module):
  """2-D convolution of [B,H,W,C] as torch.nn.Conv2d: zeros, `padding` of them on every side.

  With `padding` 'same' there are as many as `same_padding` says.
  The kernel [kh,kw,C/groups,features] starts as `law` says of its fan in, the bias as PyTorch's.
  """

  features: int
  kernel: int = 1
  stride: int = 1
  dilation: int = 1
  padding: int | str = 0
  groups: int = 1
  bias: bool = False
  law: Callable[[int], initializers.Initializer] = initializers.kaiming_normal

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,H',W',features] in the compute dtype."""
    fan_in = self.kernel**2 * x.shape[-1] // self.groups
    shape = (self.kernel, self.kernel, x.shape[-1] // self.groups, self.features)
    kernel = self.param("kernel", initializers.declare(self.law(fan_in), shape))
    x = mode.cast(x)
    y = product(self._convolve(x, kernel.astype(x.dtype)))
    if self.bias:
      bias = self.param(
        "bias", initializers.declare(initializers.torch_bias(fan_in), (self.features,))
      )
      y = y + bias.astype(y.dtype).reshape(1, 1, 1, -1)
    return y

  def _convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
    pads = [self._pads(size) for size in x.shape[1:3]]
    span = self.dilation * (self.kernel - 1) + 1
    padded = [size + sum(pad) for size, pad in zip(x.shape[1:3], pads)]
    if symbolic.is_known(*padded) and min(padded) < span:
      raise ValueError(
        f"Convolution {'/'.join(self.path)}: its kernel spans {span} pixels, more than the padded "
        f"map of {x.shape[1]}x{x.shape[2]} has; use larger pictures."
      )
    if self.kernel == 1 and pads == [(0, 0)] * 2 and self.groups == 1:
      # As a matrix product: on CPU its kernel gradient is several times faster.
      if self.stride > 1:
        x = lax.slice(x, (0, 0, 0, 0), x.shape, (1, self.stride, self.stride, 1))
      return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
    if self.groups == x.shape[-1] == self.features:
      shifts = lambda x, kernel: self._depthwise_by_shifts(x, kernel, pads)
      convolved = lambda x, kernel: self._convolution(x, kernel, pads)
      return platforms.on_cpu_or_elsewhere(shifts, convolved, x, kernel)
    if self.groups == 1 and platforms.is_cpu() and by_parts.pays(x, self.features):
      return by_parts.convolve(x, kernel, Geometry(self.stride, self.dilation, tuple(pads)))
    return self._convolution(x, kernel, pads)

  def _convolution(self, x: jax.Array, kernel: jax.Array, pads: list[tuple]) -> jax.Array:
    if not symbolic.is_known(*pads[0], *pads[1]):
      x, pads = _padded(x, pads), [(0, 0)] * 2
    return lax.conv_general_dilated(
      x,
      kernel,
      (self.stride,) * 2,
      pads,
      rhs_dilation=(self.dilation,) * 2,
      feature_group_count=self.groups,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  def _depthwise_by_shifts(
    self, x: jax.Array, kernel: jax.Array, pads: list[tuple[int, int]]
  ) -> jax.Array:
    return depthwise(x, kernel, Geometry(self.stride, self.dilation, tuple(pads)))

  def _pads(self, size: int) -> tuple[int, int]:
    if self.padding == "same":
      return same_padding(size, self.kernel, self.stride, self.dilation)
    return self.padding, self.padding


class BatchNorm(nn.Module):
  """Batch normalization of [B,H,W,C] per group of the batch, as torch.nn.(Sync)BatchNorm2d.

  The running variance is the unbiased one, n / (n - 1) with n over all devices, unless the mode
  says otherwise; `momentum` is PyTorch's: running = (1 - momentum) running + momentum batch, once
  per group, in order.
  The variance is computed in two passes: E[x^2] - E[x]^2 cancels for a large mean.
  There is no scale unless `scaled`.
  """

  momentum: float = 0.1
  epsilon: float = 1e-5
  scaled: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns `x` normalized, in the compute dtype."""
    shape = x.shape[-1:]
    zeros = initializers.declare(initializers.constant(0), shape)
    ones = initializers.declare(initializers.constant(1), shape)
    scale = self.param("scale", ones) if self.scaled else jnp.ones(shape, jnp.float32)
    bias = self.param("bias", zeros)
    mean = self.variable("batch_stats", "mean", zeros)
    var = self.variable("batch_stats", "var", ones)
    high = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if mode.bn == "eval":
      factor = scale * lax.rsqrt(var.value + self.epsilon)
      y = high * _last(factor, 4) + _last(bias - mean.value * factor, 4)
      return mode.cast(y, like=x)
    _check_groups(mode.groups, x.shape)
    y, means, variances, counts = self._normalize(high, scale, bias, mode)
    if mode.bn == "train":
      mean.value = self._moved(mean.value, means, mode)
      if not mode.biased_variance:
        factors = [n / (n - 1) for n in counts]
        variances = variances * np.asarray(factors, variances.dtype)[:, None]
      var.value = self._moved(var.value, variances, mode)
    return mode.cast(y, like=x)

  def _normalize(self, x: jax.Array, scale: jax.Array, bias: jax.Array, mode: Mode):
    """Returns y like x, means [G,C], biased variances [G,C] and the counts of the G groups."""
    count = _devices_of_a_group(mode) * x.shape[1] * x.shape[2]
    counts = [size * count for size in mode.groups]
    if min(counts) < 2:
      raise ConfigError(
        f"BatchNorm {'/'.join(self.path)}: a group of {mode.groups} has one value per channel "
        f"(map {x.shape[1]}x{x.shape[2]}), so it has no variance; use a larger "
        "train.batch_labeled, train.batch_unlabeled or train.bn_group, or less train.accumulate."
      )
    if len(set(mode.groups)) == 1:
      grouped = x.reshape(len(mode.groups), -1, *x.shape[1:])
      y, mean, var = self._normalize_groups(grouped, scale, bias, mode)
      return y.reshape(x.shape), mean, var, counts
    starts = np.cumsum((0, *mode.groups))
    parts = [
      self._normalize_groups(x[None, a:b], scale, bias, mode)
      for a, b in zip(starts[:-1], starts[1:])
    ]
    y, mean, var = (jnp.concatenate(part, axis) for part, axis in zip(zip(*parts), (1, 0, 0)))
    return y[0], mean, var, counts

  def _normalize_groups(self, x: jax.Array, scale: jax.Array, bias: jax.Array, mode: Mode):
    """x [G,B,H,W,C] -> normalized x, means [G,C], biased variances [G,C]."""
    mean = _group_mean(x, mode)
    centered = x - mean
    var = _group_mean(jnp.square(centered), mode)
    y = centered * (lax.rsqrt(var + self.epsilon) * _last(scale, 5)) + _last(bias, 5)
    return y, mean[:, 0, 0, 0], var[:, 0, 0, 0]

  def _moved(self, running: jax.Array, batch: jax.Array, mode: Mode) -> jax.Array:
    # The updates of the groups, one after the other, in closed form.
    keep, groups = 1 - self.momentum, len(batch)
    weights = [self.momentum * keep ** (groups - 1 - g) for g in range(groups)]
    batch = lax.stop_gradient(batch)
    new = sum(w * batch[g] for g, w in enumerate(weights))
    if mode.axes and mode.span:
      blocks = lax.axis_size(mode.axes) // mode.span
      later = blocks - 1 - lax.axis_index(mode.axes) // mode.span
      share = jnp.asarray(keep, new.dtype) ** (groups * later) / mode.span
      new, groups = lax.psum(new * share, mode.axes), groups * blocks
    return (keep**groups * running + new).astype(running.dtype)


def instance_norm(x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
  """`x` [B,H,W,C] normalized per image and channel, as torch.nn.InstanceNorm2d without affine."""
  high = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  centered = high - high.mean((1, 2), keepdims=True)
  variance = jnp.square(centered).mean((1, 2), keepdims=True)
  return (centered * lax.rsqrt(variance + epsilon)).astype(x.dtype)


def _last(x: jax.Array, rank: int) -> jax.Array:
  return x.reshape((1,) * (rank - 1) + x.shape)


def _devices_of_a_group(mode: Mode) -> int:
  if not mode.axes:
    return 1
  return mode.span or lax.axis_size(mode.axes)


def _group_mean(x: jax.Array, mode: Mode) -> jax.Array:
  """Means [G,1,1,1,C] of x [G,B,H,W,C] over all that share a group."""
  mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
  if not mode.axes or mode.span == 1:
    return mean
  if not mode.span:
    return lax.pmean(mean, mode.axes)
  every = lax.all_gather(mean, mode.axes)
  blocks = every.reshape(-1, mode.span, *mean.shape).mean(1)
  return blocks[lax.axis_index(mode.axes) // mode.span]


def _check_groups(groups: tuple[int, ...], shape: tuple[int, ...]) -> None:
  if not groups or min(groups) < 1 or sum(groups) != shape[0]:
    raise ValueError(
      f"Mode.groups {groups} do not partition the local batch of {shape[0]} images; "
      "give the local size of every group, in order."
    )


class Dropout(nn.Module):
  """Dropout of [B,h,w,C] as torch.nn.Dropout, or of `whole_maps` as torch.nn.Dropout2d.

  It drops where the mode has `draws`, whatever the batch normalization does.
  """

  rate: float
  whole_maps: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns `x`, dropped numbers 0, the others divided by 1 - rate."""
    if mode.draws is None or self.rate == 0:
      return x
    shape = (x.shape[0], 1, 1, x.shape[3]) if self.whole_maps else x.shape
    keep = mode.draws.keep("/".join(self.path), shape, self.rate)
    return jnp.where(keep, x / (1 - self.rate), jnp.zeros((), x.dtype))


class ConvNorm(nn.Module):
  """Convolution, batch normalization, activation (None: none).

  `padding` None is dilation * (kernel // 2); the others are `Conv`'s.
  """

  features: int
  kernel: int = 1
  stride: int = 1
  dilation: int = 1
  groups: int = 1
  activation: Callable[[jax.Array], jax.Array] | None = jax.nn.relu
  padding: int | str | None = None
  bias: bool = False
  law: Callable[[int], initializers.Initializer] = initializers.kaiming_normal

  @nn.compact
  def __call__(self, x: jax.Array, mode: Mode) -> jax.Array:
    """Returns [B,ceil(H/stride),ceil(W/stride),features] for an odd kernel."""
    conv = Conv(
      self.features,
      self.kernel,
      self.stride,
      self.dilation,
      self.dilation * (self.kernel // 2) if self.padding is None else self.padding,
      self.groups,
      self.bias,
      self.law,
      name="conv",
    )
    x = conv(x, mode)
    x = BatchNorm(name="bn")(x, mode)
    return x if self.activation is None else self.activation(x)
