"""RoIAlign against a slow reference that follows the definition point by point."""

import math

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.roi_align import roi_align


def test_a_map_that_rises_evenly_has_the_middles_of_the_parts_as_their_values() -> None:
    middles = (torch.arange(14) + 0.5) / 14
    maps = torch.stack([middles.expand(14, 14), middles[:, None].expand(14, 14)])[None]
    box = (0.25, 0.5, 0.75, 0.85)

    across, down = roi_align(maps, torch.tensor([[box]]))[0, 0]

    parts = (torch.arange(7) + 0.5) / 7
    torch.testing.assert_close(across, (0.25 + 0.5 * parts).expand(7, 7))
    torch.testing.assert_close(down, (0.5 + 0.35 * parts)[:, None].expand(7, 7))


def test_the_whole_map_is_averaged_in_equal_parts() -> None:
    maps = torch.randn(1, 3, 14, 14)

    found = roi_align(maps, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))

    torch.testing.assert_close(found[0, 0], torch.nn.functional.avg_pool2d(maps, 2)[0])


@pytest.mark.parametrize(
    ("rows", "columns", "size"), [(14, 14, 7), (4, 6, 2), (3, 9, 4), (5, 5, 7)]
)
def test_any_boxes_are_sampled_as_the_definition_says(rows: int, columns: int, size: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    maps = torch.randn(2, 3, rows, columns, generator=generator, dtype=torch.float64)
    starts = torch.rand(2, 5, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.1
    boxes = torch.cat([starts, starts + torch.rand(2, 5, 2, generator=generator)], dim=-1)

    found = roi_align(maps, boxes, size)

    assert found.shape == (2, 5, 3, size, size)
    for clip in range(2):
        for box in range(5):
            expected = slow_align(maps[clip], boxes[clip, box].tolist(), size)
            torch.testing.assert_close(found[clip, box], expected)


def slow_align(cells: Tensor, box: list[float], size: int) -> Tensor:
    dim, rows, columns = cells.shape
    x1, y1, x2, y2 = (min(1.0, max(0.0, corner)) for corner in box)
    pieces = math.ceil(max(rows, columns) / size)
    out = torch.zeros(dim, size, size, dtype=cells.dtype)
    for row in range(size * pieces):
        for column in range(size * pieces):
            x = x1 + (x2 - x1) * (column + 0.5) / (size * pieces)
            y = y1 + (y2 - y1) * (row + 0.5) / (size * pieces)
            out[:, row // pieces, column // pieces] += value_at(cells, x, y) / pieces**2
    return out


def value_at(cells: Tensor, x: float, y: float) -> Tensor:
    """Between the four nearest middles of cells."""
    _, rows, columns = cells.shape
    down = min(rows - 1.0, max(0.0, y * rows - 0.5))
    across = min(columns - 1.0, max(0.0, x * columns - 0.5))
    top, left = int(down), int(across)
    bottom, right = min(rows - 1, top + 1), min(columns - 1, left + 1)
    high = cells[:, top, left] * (1 - across + left) + cells[:, top, right] * (across - left)
    low = cells[:, bottom, left] * (1 - across + left) + cells[:, bottom, right] * (across - left)
    return high * (1 - down + top) + low * (down - top)
