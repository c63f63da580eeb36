"""Axes of charts: round ticks, and numbers as people read them."""

import math
from collections.abc import Callable, Sequence

Format = Callable[[float], str]


def ticks(low: float, high: float, number: int = 5) -> list[float]:
  """Returns about `number` multiples of 1, 2 or 5 times a power of ten, inside [low, high]."""
  if not high > low:
    return [low]
  rough = (high - low) / number
  power = 10.0 ** math.floor(math.log10(rough))
  step = power * min((1, 2, 5, 10), key=lambda k: abs(math.log(power * k / rough)))
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [k * step for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
  """Returns powers of ten inside [low, high]; of fewer than two, also 2 and 5 times."""
  powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  found = [10.0**k for k in powers if low <= 10.0**k <= high]
  if len(found) < 2:
    found = [m * 10.0**k for k in powers for m in (1, 2, 5) if low <= m * 10.0**k <= high]
  return found[:: max(1, -(-len(found) // 6))]


def domain(values: Sequence[float], *, zero: bool = False) -> tuple[float, float]:
  """Returns (low, high) around finite values, never of no width; from 0 on where `zero`."""
  low, high = min(values), max(values)
  if zero and low >= 0:
    low = 0.0
  if not high > low:
    around = abs(high) * 0.1 or 1.0
    return (0.0 if zero and high >= 0 else low - around), high + around
  room = 0.05 * (high - low)
  return (low if zero and low == 0 else low - room), high + room


def number(value: float) -> str:
  """Returns three digits or four: 0.0123, 12.3, 1230, 45.6k, 1.2e-05."""
  if not math.isfinite(value):
    return str(value)
  if value == 0:
    return "0"
  size = abs(value)
  if size < 1e-3 or size >= 1e9:
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
  if size >= 1e4:
    return f"{value / 1e6:.3g}M" if size >= 1e6 else f"{value / 1e3:.3g}k"
  return f"{value:.0f}" if size >= 1000 else f"{value:.3g}"


def step(value: float) -> str:
  """Returns a step of training: 500, 2k, 40k, 1.5M."""
  for bound, unit in ((1e6, "M"), (1e3, "k")):
    if value >= bound:
      return f"{value / bound:.4g}{unit}"
  return f"{value:g}"


def percent(value: float) -> str:
  """Returns a fraction in percent, a dash for NaN."""
  return "–" if math.isnan(value) else f"{100 * value:.1f}"
