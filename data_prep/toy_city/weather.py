"""Time of day, weather and season of one toy scene, and the light that follows from them.

Colors are RGB in display space, 1 = white; distances are in meters.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

TIMES = {"day": 0.42, "low_sun": 0.2, "dusk": 0.17, "night": 0.21}
WEATHERS = {"clear": 0.44, "overcast": 0.16, "rain": 0.14, "fog": 0.11, "snow": 0.15}
FAIR_TIMES = {"day": 0.6, "low_sun": 0.4}
FAIR_WEATHERS = {"clear": 0.7, "overcast": 0.3}
SEASONS = {"spring": 0.22, "summer": 0.38, "autumn": 0.27, "winter": 0.13}

# time of day: color of the zenith, of the horizon, of the scattered light and of the sun
_SKIES = {
  "day": ((0.20, 0.43, 0.85), (0.62, 0.80, 0.97), (0.56, 0.60, 0.68), (0.62, 0.59, 0.50)),
  "low_sun": ((0.40, 0.53, 0.78), (1.0, 0.76, 0.46), (0.42, 0.42, 0.47), (0.78, 0.52, 0.24)),
  "dusk": ((0.20, 0.22, 0.44), (0.88, 0.50, 0.38), (0.40, 0.33, 0.40), (0.06, 0.03, 0.02)),
  "night": ((0.015, 0.025, 0.08), (0.13, 0.11, 0.13), (0.19, 0.20, 0.26), (0.0, 0.0, 0.0)),
}
_COVER = {
  "clear": (0.0, 0.12),
  "overcast": (0.75, 1.0),
  "rain": (0.8, 1.0),
  "fog": (0.9, 1.0),
  "snow": (0.55, 1.0),
}
_VISIBILITY = {
  "clear": (300.0, 900.0),
  "overcast": (200.0, 600.0),
  "rain": (70.0, 160.0),
  "fog": (22.0, 60.0),
  "snow": (70.0, 300.0),
}


def pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
  """Draws one key with the probability given as its value (which must add up to 1)."""
  left = rng.random()
  for key, weight in weights.items():
    left -= weight
    if left <= 0:
      return key
  return key


@dataclass(frozen=True)
class Conditions:
  """What the sky, the air and the season do in one scene."""

  time: str
  weather: str
  season: str
  zenith: np.ndarray
  horizon: np.ndarray
  cover: float
  ambient: np.ndarray
  sun: np.ndarray
  sun_side: int  # +1: the sun stands to the right of the road, shadows fall to the left
  sun_behind: float  # 1: behind the camera, so that what faces us is lit; 0: ahead of us
  air: np.ndarray  # the color that distance fades to
  visibility: float
  wetness: float
  snow: float  # share of the ground that is white

  @property
  def lamps_on(self) -> bool:
    """Street lamps, windows and headlights burn."""
    return self.time in ("dusk", "night")


def sample_conditions(rng: np.random.Generator, fair: bool = False) -> Conditions:
  """Draws the conditions of one scene; `fair`: by daylight, without rain, fog and snow."""
  times, weathers = (FAIR_TIMES, FAIR_WEATHERS) if fair else (TIMES, WEATHERS)
  time, weather, season = pick(rng, times), pick(rng, weathers), pick(rng, SEASONS)
  season = "winter" if weather == "snow" else season
  zenith, horizon, ambient, sun = (
    np.array(c) * rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3) for c in _SKIES[time]
  )
  cover = rng.uniform(*_COVER[weather])
  gray = (zenith.mean() + horizon.mean()) / 2 * rng.uniform(0.75, 1.2) * np.array([0.97, 1.0, 1.04])
  zenith, horizon = zenith + cover * (gray - zenith), horizon + cover * (1.1 * gray - horizon)
  ambient = ambient + cover * (1.15 * ambient.mean() - ambient)
  ambient = ambient * (rng.uniform(0.7, 0.9) if weather == "rain" else 1.0)
  return Conditions(
    time=time,
    weather=weather,
    season=season,
    zenith=zenith,
    horizon=horizon,
    cover=cover,
    ambient=ambient.astype(np.float32),
    sun=(sun * max(1 - 1.3 * cover, 0.0)).astype(np.float32),
    sun_side=int(rng.choice([-1, 1])),
    sun_behind=rng.random(),
    air=(0.7 * horizon + 0.3 * zenith).astype(np.float32),
    visibility=rng.uniform(*_VISIBILITY[weather]),
    wetness=rng.uniform(0.4, 1.0) if weather == "rain" else 0.0,
    snow=rng.uniform(0.35, 1.0) if weather == "snow" else 0.0,
  )


class Light:
  """Turns the color of a surface into the light that reaches the camera."""

  def __init__(self, conditions: Conditions, lamps: np.ndarray, rng: np.random.Generator):
    """`lamps` [n,2]: lateral position and distance of the street lamps."""
    self.conditions = conditions
    warm, cold = np.array([1.0, 0.72, 0.38]), np.array([0.85, 0.92, 1.0])
    strength = {"night": 0.62, "dusk": 0.25}.get(conditions.time, 0.0)
    self.lamp_color = ((warm + rng.random() * (cold - warm)) * strength).astype(np.float32)
    self.lamps = [(float(x), float(z)) for x, z in lamps] if strength else []
    self.headlight = rng.uniform(0.2, 0.45) if conditions.time == "night" else 0.0
    from_right = conditions.sun_side > 0
    shares = {
      "up": 0.75,
      "front": 0.9 * conditions.sun_behind,
      "left": 0.95 * (not from_right),
      "right": 0.95 * from_right,
    }
    self._direct = {n: conditions.sun * np.float32(share) for n, share in shares.items()}

  def direct(self, normal: str) -> np.ndarray:
    """The sun on a face turned 'up', to the 'front' (toward us), to the 'left' or 'right'."""
    return self._direct[normal]

  def local(self, lateral: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Scattered light, lamps and our headlights at points [...]; spreads to [...,3]."""
    light = self.conditions.ambient
    if self.headlight:
      light = light + (self.headlight * np.exp(-depth / 11))[..., None]
    if self.lamps:
      glow = sum(np.exp((lateral - x) ** 2 / -22 - (depth - z) ** 2 / 40) for x, z in self.lamps)
      light = light + glow[..., None] * self.lamp_color
    return light

  def through_air(self, radiance: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Fades radiance [...,3] with the distance [...] in place, and returns it; all float32."""
    clear = np.exp(depth * np.float32(-1 / self.conditions.visibility))[..., None]
    radiance -= self.conditions.air
    radiance *= clear
    radiance += self.conditions.air
    return radiance

  def on(self, lateral: float, depth: float, normal: str = "front") -> "Shade":
    """The shade of every surface with this normal at one place."""
    light = self.conditions.ambient + self.direct(normal)
    if self.headlight:
      light += self.headlight * math.exp(-depth / 11)
    if self.lamps:
      light += self.lamp_color * sum(
        math.exp(-((lateral - x) ** 2) / 22 - (depth - z) ** 2 / 40) for x, z in self.lamps
      )
    clear = math.exp(-depth / self.conditions.visibility)
    return Shade(light * np.float32(clear), self.conditions.air * np.float32(1 - clear))


@dataclass(frozen=True)
class Shade:
  """The light on a surface and the air before it: surface color -> light in the camera."""

  gain: np.ndarray
  haze: np.ndarray

  def __call__(self, albedo: ArrayLike, glow: ArrayLike = 0.0) -> np.ndarray:
    """albedo [...,3] and the light it sends out by itself -> radiance [...,3]."""
    return albedo * self.gain + (self.haze + glow)
