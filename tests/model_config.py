"""A `config.model` block for tests: all keys, with changes."""

from semiseg_jax.config import schema


def model_config(backbone="resnet50_v1s", head="deeplabv3plus", **changes):
  """`changes`: keys of the block, or block names with dicts of their keys."""
  config = schema.default().model
  config.backbone, config.head = backbone, head
  if backbone == "tiny" and head == "deeplabv3plus":
    config.deeplabv3plus.update(
      aspp_width=32, aspp_rates=(1, 2, 3), low_width=8, decoder_width=24, decoder_convs=1
    )
  config.update(changes)
  return config
