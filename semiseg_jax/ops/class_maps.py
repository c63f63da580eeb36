"""Where the classes of a picture are, from its classes alone: Grad-CAM and its refinement.

Sources: Grad-CAM (Selvaraju et al., ICCV 2017); the self-attention of PseudoSeg (Zou et al., ICLR
2021, section 3.2) with the released code.
"""

import jax
import jax.numpy as jnp

from semiseg_jax.labels import IGNORE


def image_labels(y: jax.Array, classes: int, background: bool) -> jax.Array:
  """Returns 1 where a class is in a picture, 0 elsewhere, float32 [B,K].

  Args:
    y: labels [B,H,W].
    classes: C.
    background: class 0 is none of the K = C - 1; False: K = C.
  """
  wanted = jnp.arange(int(background), classes)
  return (y[..., None] == wanted[None, None, None]).any((1, 2)).astype(jnp.float32)


def known_labels(y: jax.Array, classes: jax.Array, inside: jax.Array | None = None) -> jax.Array:
  """Returns which image labels can be learned from, bool [B,K]: none of a picture without pixels.

  Args:
    y: labels [B,H,W].
    classes: image labels [B,K] of them.
    inside: bool [B,H,W], not padding; given, a picture with an ignored pixel there does not say
      which classes it has not.
  """
  valid = y != IGNORE
  whole = valid.any((1, 2))
  if inside is None:
    return jnp.broadcast_to(whole[:, None], classes.shape)
  return (whole & (valid | ~inside).all((1, 2)))[:, None] | (classes > 0)


def linear_grad_cam(Z: jax.Array) -> jax.Array:
  """Returns relu(sum_k w_ck A_k) [B,h,w,K] for logits that are linear in the mean of A.

  There d logit_c / d A_k is W_kc / (h w) at every place, and so is its spatial mean w_ck.

  Args:
    Z: A W [B,h,w,K].
  """
  return jax.nn.relu(Z) / (Z.shape[1] * Z.shape[2])


def seeds(M: jax.Array, y: jax.Array) -> jax.Array:
  """Returns maps from 0 to 1: of absent classes 0, of others M over its spatial maximum.

  Args:
    M: class maps [N,B,h,w,K], not negative.
    y: image labels [N,B,K], 0 or 1.
  """
  M = y[:, :, None, None] * M
  top = M.max((2, 3), keepdims=True)
  return jnp.where(top > 0, M / jnp.maximum(top, 1e-5), 0)


def attended(query: jax.Array, key: jax.Array, S: jax.Array, v: jax.Array) -> jax.Array:
  """Returns R = A S + S [B,h,w,K], A = softmax(Q K^T / sqrt(D)) over the places of a picture.

  Places that are not valid are not looked at; they themselves look at all alike.

  Args:
    query, key: [B,h,w,D].
    S: values [B,h,w,K].
    v: bool [B,h,w], valid places.
  """
  flat = lambda x: x.reshape(len(x), -1, *x.shape[3:])
  seen = flat(v)[:, :, None] & flat(v)[:, None, :]
  Z = jnp.einsum("bqd,bkd->bqk", flat(query), flat(key)) / query.shape[-1] ** 0.5
  A = jax.nn.softmax(jnp.where(seen, Z, -1e9), axis=-1)
  return jnp.einsum("bqk,bkc->bqc", A, flat(S)).reshape(S.shape) + S


def with_background(R: jax.Array) -> jax.Array:
  """Returns R [B,h,w,K] after a first channel 2 - max_c R_c; R is from 0 to 2."""
  return jnp.concatenate([2 - R.max(-1, keepdims=True), R], -1)
