"""What a network says of an optimizer of its own."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """The optimizer of one network, in place of that of `config.optimizer`.

  Attributes:
    name: 'sgd', 'adam' or 'adamw', as in `config.optimizer`.
    learning_rate: of all its parameters, at the peak of the schedule.
    momentum, nesterov: of SGD.
    betas, epsilon: of Adam and AdamW.
    weight_decay: on all its parameters.
    schedule: 'poly', 'cosine' or 'constant'; '' = that of the run.  Its power and warm-up are those
      of the run.
  """

  name: str
  learning_rate: float
  momentum: float = 0.9
  nesterov: bool = False
  betas: tuple[float, float] = (0.9, 0.999)
  epsilon: float = 1e-8
  weight_decay: float = 0.0
  schedule: str = ""
