"""One street scene of the toy city: what stands where, painted from far to near."""

from collections.abc import Callable

import cv2
import numpy as np

from data_prep.toy_city import cars, objects
from data_prep.toy_city.buildings import Building, draw_building, draw_skyline
from data_prep.toy_city.canvas import BUILDING, Canvas
from data_prep.toy_city.effects import add_glow, add_precipitation, expose, reflect_in_wet_road
from data_prep.toy_city.street import Camera, Street, paint_ground, paint_sky
from data_prep.toy_city.weather import Conditions, Light, sample_conditions
from semiseg_jax.labels import IGNORE

NEAREST, FARTHEST = 2.0, 90.0  # meters


def render_scene(
  seed: int,
  index: int,
  height: int,
  width: int,
  *,
  stream: int = 0,
  flat: bool = False,
  large: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """Draws scene `index` of a city.

  A pure function of its arguments. `stream` separates sets of scenes of one seed. `flat` paints
  every surface in the color of its class and leaves out weather and camera. `large` leaves out what
  is thin or small, fences, poles, signs and people, and shows the rest in fair weather.

  Returns:
    The picture uint8 [height,width,3] (RGB) and the class ids uint8 [height,width]; 255 is the
    bonnet of our own car.
  """
  rng = np.random.Generator(np.random.PCG64([seed, stream, index]))
  scene = Scene(rng, height, width, flat, large)
  scene.paint()
  image, label = scene.canvas.finish()
  if flat:
    return np.round(image * 255).astype(np.uint8), label
  conditions = scene.conditions
  if conditions.wetness:
    reflect_in_wet_road(image, label, scene.camera.horizon / 2, conditions.wetness, rng)
  if conditions.lamps_on and scene.bulbs:
    add_glow(image, _unhidden(scene, label), scene.light.lamp_color)
  add_precipitation(image, conditions, rng)
  return expose(image, conditions, rng), label


class Scene:
  """The objects of one scene as (distance, stroke) pairs, waiting to be painted."""

  def __init__(
    self, rng: np.random.Generator, height: int, width: int, flat: bool, large: bool = False
  ):
    self.rng, self.large = rng, large
    self.canvas = Canvas(height, width, flat)
    self.conditions: Conditions = sample_conditions(rng, fair=large)
    self.street = Street.sample(rng, self.conditions)
    self.camera = Camera.sample(rng, self.canvas.height, self.canvas.width, self.street.road / 2)
    self.foliage = objects.Foliage(self.conditions, rng)
    self.lamps = self._place_lamps()
    self.light = Light(self.conditions, self.lamps, rng)
    self.strokes: list[tuple[float, Callable[..., object], tuple]] = []
    self.shadows: list[tuple[float, ...]] = []  # lateral, distance, radius, height of a thing
    self.bulbs: list[tuple[float, float]] = []
    for side in (0, 1):
      self._place_lots(side)
      self._place_trees(side)
      if not large:
        self._place_signs(side)
        self._place_people(side)
    self._place_traffic()

  def paint(self) -> None:
    """Sky, skyline, ground, then everything else from far to near, and our own bonnet."""
    paint_sky(self.canvas, self.camera, self.conditions, self.rng)
    draw_skyline(self.canvas, self.camera, self.street, self.light, self.rng)
    paint_ground(self.canvas, self.camera, self.street, self.light, self._shadow_map(), self.rng)
    for _, draw, where in sorted(self.strokes, key=lambda stroke: -stroke[0]):
      made = draw(self.canvas, self.camera, *where)
      if made is not None:
        self.bulbs.append(made)
    if self.rng.random() < 0.4:
      self._paint_bonnet()

  def _stroke(self, depth: float, draw: Callable[..., object], *where) -> None:
    if depth > NEAREST:
      self.strokes.append((depth, draw, where))

  def _stand(self, depth: float, draw: Callable[..., object], lateral: float) -> None:
    """A stroke for something narrow at one place, left out when it is beside the picture."""
    if depth > NEAREST:
      x = self.camera.project((lateral, 0.0, depth))[0, 0]
      if abs(x - self.canvas.width / 2) < self.canvas.width / 2 + 3 * self.camera.focal / depth:
        self._stroke(depth, draw, self.light, lateral, depth, self.rng)

  def _place_lamps(self) -> np.ndarray:
    rng, street = self.rng, self.street
    if rng.random() < 0.15:
      return np.zeros((0, 2))
    spacing, side = rng.uniform(14, 26), int(rng.integers(2))
    depths = np.arange(rng.uniform(5, 14), 75, spacing)
    both = rng.random() < 0.5
    sides = [(side + (i if both else 0)) % 2 for i in range(len(depths))]
    return np.array(
      [((1 if s else -1) * (street.kerb(s) + 0.35), z) for s, z in zip(sides, depths)]
    )

  def _place_lots(self, side: int) -> None:
    """Buildings, fences and gardens one after the other, with gaps where a street crosses."""
    rng, street, light = self.rng, self.street, self.light
    sign, district = (1 if side else -1), street.district[side]
    density, fences = {
      "downtown": (0.97, 0.2),
      "suburb": (0.8, 0.75),
      "avenue": (0.92, 0.35),
      "park": (0.2, 0.6),
      "industrial": (0.75, 0.85),
    }[district]
    z, built_to = NEAREST + rng.uniform(0, 2), 0.0
    while z < FARTHEST:
      end = z + rng.uniform(8, 14 if district == "suburb" else 22)
      for gap_start, gap_end in street.gaps:
        if gap_start < end and gap_end > z:
          end = gap_start if gap_start - z > 4 else z
      if end == z:
        z = next(b for a, b in street.gaps if a - 4 <= z < b)
        continue
      if rng.random() < density:
        house = Building.sample(rng, side, street, z, end, exposed=z > built_to)
        built_to = end
        self._stroke(house.end, draw_building, house, light, rng)
      elif district != "downtown":
        for _ in range(int(rng.integers(1, 5))):
          self._tree(sign * (street.front(side) + rng.uniform(1, 12)), rng.uniform(z, end))
      if rng.random() < fences and street.setback[side] > 0.5 and not self.large:
        lateral = sign * (street.edge(side) + 0.1)
        self._stroke(end, objects.draw_fence, light, lateral, z, end - rng.uniform(0, 3), rng)
      z = end + (rng.uniform(1, 5) if district in ("suburb", "industrial") else 0)

  def _place_trees(self, side: int) -> None:
    rng, street = self.rng, self.street
    sign, district = (1 if side else -1), street.district[side]
    rows = {"downtown": 0.2, "suburb": 0.35, "avenue": 0.85, "park": 0.8, "industrial": 0.25}[
      district
    ]
    if rng.random() < rows:
      spacing = rng.uniform(6, 16)
      lateral = street.kerb(side) + rng.uniform(0.5, 1.0)
      for z in np.arange(rng.uniform(5, 16), 75, spacing):
        if not any(a - 1 < z < b + 1 for a, b in street.gaps):
          self._tree(sign * lateral, z + rng.uniform(-1, 1))
    garden = street.setback[side]
    if garden > 1:
      for z in rng.uniform(4, 70, int(rng.integers(0, 11))):
        if not any(a - 1 < z < b + 1 for a, b in street.gaps):
          lateral = sign * (street.edge(side) + rng.uniform(0.4, garden))
          if rng.random() < 0.35:
            self._tree(lateral, z)
          else:
            self._stand(z, self.foliage.draw_bush, lateral)

  def _tree(self, lateral: float, z: float) -> None:
    self._stand(z, self.foliage.draw_tree, lateral)
    self.shadows.append((lateral, z, self.rng.uniform(1.5, 2.8), 6.0))

  def _place_signs(self, side: int) -> None:
    rng, street = self.rng, self.street
    sign = 1 if side else -1
    for lateral, z in self.lamps:
      if lateral * sign > 0:
        self._stand(z, objects.draw_lamp_post, lateral)
        self.shadows.append((lateral, z, 0.12, 5.0))
    for z in rng.uniform(5.5, 30, int(rng.integers(0, 4))):
      lateral = sign * (street.kerb(side) + rng.uniform(0.3, 0.6))
      self._stand(z, objects.draw_sign, lateral)
      self.shadows.append((lateral, z, 0.1, 2.5))
    if side and rng.random() < 0.12:
      reach = max(street.kerb(0), street.kerb(1)) + 0.6
      self._stroke(z := rng.uniform(14, 40), objects.draw_gantry, self.light, reach, z, rng)

  def _place_people(self, side: int) -> None:
    rng, street = self.rng, self.street
    sign = 1 if side else -1
    busy = {"downtown": 4.0, "suburb": 2.0, "avenue": 3.0, "park": 2.5, "industrial": 1.5}
    for _ in range(int(min(rng.poisson(busy[street.district[side]]), 7))):
      lateral = sign * (street.kerb(side) + rng.uniform(0.5, max(street.pavement[side], 1.2)))
      if rng.random() < 0.12:
        lateral = rng.uniform(-1, 1) * street.road
      z = 4.5 + 22 * rng.random() ** 1.4
      for step in range(1 + (rng.random() < 0.3)):
        self._stand(z, objects.draw_person, lateral + 0.6 * step)
        self.shadows.append((lateral + 0.6 * step, z, 0.25, 1.7))

  def _place_traffic(self) -> None:
    """Parked rows, cars in both lanes, and one across a side street."""
    rng, street = self.rng, self.street
    taken = []
    for side, sign in ((0, -1), (1, 1)):
      if rng.random() < 0.45 and street.road > 3.6:
        for z in np.arange(rng.uniform(3, 9), 60, rng.uniform(5.8, 11)):
          if rng.random() < 0.75:
            taken.append((sign * (street.road - 1.0), z + rng.uniform(-0.3, 0.3), side == 0))
      z = rng.uniform(5, 26)
      while z < 80 and rng.random() < 0.7:
        lane = max(0.42 * street.road if street.road < 4.5 else 0.3 * street.road, 1.1)
        taken.append((sign * lane, z, side == 0))
        z += rng.uniform(10, 35)
    for lateral, z, oncoming in taken:
      self._stroke(z + 2, cars.draw_car, self.light, lateral, z, oncoming, rng)
      self.shadows.append((lateral, z + 2, 1.1, 1.3))
    for start, end in street.gaps:
      if rng.random() < 0.4:
        z = rng.uniform(start + 1, end - 1)
        self._stroke(z, cars.draw_crossing_car, self.light, rng.uniform(-9, 6), z, rng)

  def _shadow_map(self) -> np.ndarray:
    """Share [2H,2W] float32 of the sun kept from the ground by what stands on it."""
    lost = np.zeros((self.canvas.height, self.canvas.width), np.uint8)
    if not self.conditions.sun.any():
      return lost.astype(np.float32)
    away, reach = -self.conditions.sun_side, self.rng.uniform(0.5, 1.8)
    front = self.street.front(int(self.conditions.sun_side > 0))
    for start in np.arange(2, 100, 9.0):
      tip = away * (-front + reach * self.rng.uniform(2, 14))
      self._darken(lost, away * -front, tip, start, start + 8)
    for lateral, z, radius, height in self.shadows:
      tip = lateral + away * reach * height
      near, far = max(z - radius, 1.0), z + radius
      self._darken(lost, lateral - away * radius, tip, near, far)
    return cv2.blur(lost, (3, 3)).astype(np.float32) / 255

  def _darken(self, lost: np.ndarray, start: float, tip: float, near: float, far: float) -> None:
    ring = self.camera.project(
      (start, 0.0, near), (tip, 0.0, near), (tip, 0.0, far), (start, 0.0, far)
    ).clip(-4000, 4000)
    cv2.fillPoly(lost, [ring.round().astype(np.int32)], 230)

  def _paint_bonnet(self) -> None:
    """Our own car at the lower border, which belongs to no class."""
    h, w, rng = self.canvas.height, self.canvas.width, self.rng
    x = np.linspace(-0.05, 1.05, 12)
    rise = rng.uniform(0.04, 0.11) * (1 - (2 * x - 1) ** 4 * rng.uniform(0.3, 1.0))
    outline = np.stack([x * w, h * (1 - rise)], -1)
    paint = np.array(cars.PAINTS[rng.integers(len(cars.PAINTS))])
    shade = self.light.on(0.0, 1.0, "up")
    below = np.array([[1.05 * w, h + 4], [-0.05 * w, h + 4]])
    self.canvas.polygon(np.concatenate([outline, below]), shade(paint), IGNORE)


def _unhidden(scene: Scene, label: np.ndarray) -> np.ndarray:
  """The lamps in the picture with no house before them, in pixels [n,2]."""
  points = np.array(scene.bulbs) / 2
  h, w = label.shape
  column, row = points[:, 0].astype(int), points[:, 1].astype(int)
  inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
  points, column, row = points[inside], column[inside], row[inside]
  return points[label[row, column] != BUILDING]
