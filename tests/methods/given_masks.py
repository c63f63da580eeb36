"""A Step whose masks are fields of the batch: arguments of the compiled step."""

from semiseg_jax.methods.step import Step


class GivenMasks(Step):
  def cutmix(self, stream):
    return self._batch[stream]["mask"]

  def single_box(self, stream, use):
    return self._batch[stream][f"box {use}"]

  def u(self, use, stream, shape, copies=0):
    """Uniform numbers [B,*shape] or [N,B,*shape] of the field `use`, where there is one."""
    given = self._batch[stream].get(use)
    return super().u(use, stream, shape, copies) if given is None else given


def use(monkeypatch):
  """Methods read masks, bool [B,H,W], from 'mask' of a stream, single boxes from 'box K'."""
  monkeypatch.setattr("semiseg_jax.methods.method.Step", GivenMasks)
