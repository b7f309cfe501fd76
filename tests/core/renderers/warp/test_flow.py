import pytest
import torch
import torch.nn.functional as F

from portraittalk_core.face.aperture import MOUTH, Aperture, pixel_axes, pixel_centres
from portraittalk_core.renderers.warp.field import GRID, grid_nodes
from portraittalk_core.renderers.warp.flow import FlowGrid, overlay


@pytest.mark.parametrize(("height", "width"), [(200, 130), (2, 3), (64, 64), (31, 400)])
def test_nodes_are_interpolated_as_torch_does(height, width):
    nodes = torch.randn(2, GRID, GRID)
    expected = F.interpolate(nodes[None], size=(height, width), mode="bilinear", align_corners=True)[0]
    grid, part = FlowGrid(height, width), (slice(1, height), slice(0, width - 1))
    wide = grid.widened(nodes)
    bands = torch.cat([grid.band(index, wide) for index in range(len(grid.bands))], 1)
    torch.testing.assert_close(bands, expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(grid.at(nodes, part), expected[:, part[0], part[1]], atol=2e-4, rtol=0)


def test_parts_are_overlaid_where_they_lie_in_a_place():
    whole, part = torch.zeros(2, 20, 30), torch.rand(2, 9, 12) + 1
    whole[:, 4:13, 10:22] = part
    for rows, columns in ((slice(0, 20), slice(0, 30)), (slice(8, 16), slice(0, 14)), (slice(14, 20), slice(0, 30))):
        planes = torch.zeros(2, rows.stop - rows.start, columns.stop - columns.start)
        overlay(planes, (rows, columns), [((slice(4, 13), slice(10, 22)), part)])
        assert torch.equal(planes, whole[:, rows, columns])


def test_spans_hold_every_pixel_that_a_moving_node_reaches():
    height, width = 187, 251
    x, y = grid_nodes((0, 0, width, height)).unbind(-1)
    for moves in ((x - 60) ** 2 + (y - 70) ** 2 < 30**2, (x + y > 200) & (x < 90), torch.zeros(GRID, GRID).bool()):
        reached = F.interpolate(moves[None, None].float(), size=(height, width), mode="bilinear", align_corners=True)
        drawn = torch.zeros(height, width, dtype=torch.int)
        for rows, columns in FlowGrid(height, width).spans(moves):
            drawn[rows, columns] += 1
        assert drawn.max() <= 1
        assert not ((reached[0, 0] > 0) & (drawn == 0)).any()
        assert drawn.sum() <= 2.5 * (reached > 0).sum() + 0.02 * drawn.numel() * bool(moves.any())


def test_axes_on_a_grid_are_those_of_its_positions():
    opening = Aperture.of(torch.rand(478, 2, generator=torch.Generator().manual_seed(1)) * 90, MOUTH)
    box = (3, 5, 40, 31)
    for plane, expected in zip(opening.axes_on(*pixel_axes(box)), opening.axes_of(pixel_centres(box)), strict=True):
        torch.testing.assert_close(plane, expected, atol=1e-3, rtol=0)
