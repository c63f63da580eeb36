"""What happens to the light on its way through the weather and the camera of the toy city."""

import cv2
import numpy as np

from data_prep.toy_city.canvas import PAVEMENT, ROAD
from data_prep.toy_city.street import noise_field
from data_prep.toy_city.weather import Conditions


def reflect_in_wet_road(
  image: np.ndarray, label: np.ndarray, horizon: float, wetness: float, rng: np.random.Generator
) -> None:
  """Mirrors what stands over the horizon in the road; image [H,W,3] float32 changes in place."""
  h, w = label.shape
  rows = np.clip(np.round(2 * horizon - np.arange(h)), 0, h - 1).astype(int)
  mirrored = cv2.blur(image[rows], (3, 9))
  puddles = np.clip(noise_field(rng, (h, w), (14, 7)) * 1.6 - 0.3, 0.25, 1.0)
  share = np.float32(0.6 * wetness) * puddles * ((label == ROAD) + 0.6 * (label == PAVEMENT))
  image += share[..., None].astype(np.float32) * (mirrored - image)


def add_glow(image: np.ndarray, lamps: np.ndarray, color: np.ndarray) -> None:
  """Halos around the lamps [n,2] (x, y, pixels) that burn in the picture; in place."""
  h, w = image.shape[:2]
  x, y = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)[:, None]
  for lamp_x, lamp_y in lamps:
    across, down = np.exp(-((x - lamp_x) ** 2) / 30), np.exp(-((y - lamp_y) ** 2) / 30)
    image += (across * down)[..., None] * np.asarray(0.8 * color, np.float32)


def add_precipitation(image: np.ndarray, conditions: Conditions, rng: np.random.Generator) -> None:
  """Streaks of rain or flakes of snow before the lens; in place."""
  h, w = image.shape[:2]
  tone = conditions.ambient.astype(np.float32) * 1.2 + 0.1
  if conditions.weather == "rain":
    drops = np.zeros((h, w), np.float32)
    slant = rng.uniform(-0.3, 0.3)
    length = rng.uniform(3, 8)
    for x, y in rng.random((int(rng.integers(15, 50)), 2)) * [w, h]:
      cv2.line(drops, (int(x), int(y)), (int(x + slant * length), int(y + length)), 1.0)
    image += drops[..., None] * np.float32(0.22) * (tone - image)
  elif conditions.weather == "snow" and rng.random() < 0.6:
    flakes = np.zeros((h, w), np.float32)
    for x, y, size in rng.random((int(rng.integers(15, 60)), 3)) * [w, h, 1]:
      cv2.circle(flakes, (int(x), int(y)), int(size * 1.6), 0.85, -1)
    flakes = cv2.blur(flakes, (2, 2))
    image += flakes[..., None] * np.clip(tone + 0.15 - image, 0, 1)


def expose(image: np.ndarray, conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
  """The camera: vignette, blur, exposure, white balance, contrast, noise -> uint8 [H,W,3]."""
  h, w = image.shape[:2]
  bright = {"night": (1.1, 1.9), "dusk": (0.9, 1.5)}.get(conditions.time, (0.75, 1.25))
  gain = rng.uniform(*bright) * rng.normal(1, 0.07, 3).clip(0.82, 1.18)
  y, x = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)
  vignette = 1 - rng.uniform(0, 0.3) * (x * x + y * y) / 2
  image = image * (gain * vignette[..., None]).astype(np.float32)
  if rng.random() < 0.5:
    image = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.3, 1.1))
  image /= 1 + np.maximum(image - np.float32(0.8), 0)  # highlights roll off
  saturation, contrast = rng.uniform(0.75, 1.4), rng.uniform(0.85, 1.25)
  pivot = 0.0 if conditions.time == "night" else 0.45
  mix = contrast * (saturation * np.eye(3) + (1 - saturation) / 3)
  image = cv2.transform(image, np.hstack([mix, np.full((3, 1), pivot * (1 - contrast))]))
  level = rng.uniform(0.004, 0.02) + (rng.uniform(0.0, 0.02) if conditions.time == "night" else 0.0)
  noise = rng.standard_normal((h, w, 3), np.float32)
  noise *= np.float32(level)
  noise *= np.sqrt(np.maximum(image, 0)) + np.float32(0.6)
  image += noise
  image *= np.float32(255)
  return cv2.convertScaleAbs(np.maximum(image, 0, out=image))  # rounds and saturates
