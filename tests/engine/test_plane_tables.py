"""The tables of the planes family hold the window's index map, whatever the layout of the lines."""

import numpy as np
import pytest
from geometries import drawn, geometries
from hypothesis import assume, given
from hypothesis import strategies as st

from svertka import window as geometry
from svertka.engine.plane_tables import column_map, row_map
from svertka.errors import GeometryError
from svertka.window import Segments, Window


def filled(columns, phase_pitch, line_pitch, segment, lanes):
    """A line as the kernel fills it, of a row 0, 1, 2, …; −1 outside, −2 where nothing was written."""
    tables = columns.tables(phase_pitch, lanes)
    numbers = tables.segments.view(-1, 7)[segment].tolist()
    first, outputs, begin, end, first_edge, last_edge, table = numbers
    line = np.full(line_pitch, -2)
    size = 2 + columns.split
    for low, count, *at in tables.ranges[size * begin : size * end].view(-1, size).tolist():
        for i, place in enumerate(at):
            values = np.arange(low, low + count)[i :: columns.split]
            line[place : place + len(values)] = values
    for target, source in tables.edges[2 * first_edge : 2 * last_edge].view(-1, 2).tolist():
        line[target] = -1 if source < 0 else line[source]
    taps_at = tables.taps_at.numpy()
    outputs = np.arange(outputs)[:, None]
    told = tables.columns.numpy()[table:][taps_at + outputs]
    return first, line[taps_at + outputs], told


def check(window, n, outputs, lanes=4):
    columns = column_map(window, n, outputs)
    line_pitch, phase_pitch = columns.pitches(lanes, 1)
    sources, seen = window.sources(n), 0
    for segment in range(len(columns.segments)):
        first, read, told = filled(columns, phase_pitch, line_pitch, segment, lanes)
        expected = sources[first : first + len(read)]
        np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(told, expected)
        seen += len(read)
    assert seen == len(sources)


@given(data=st.data())
@drawn
def test_each_tap_finds_its_column(data):
    axis = data.draw(geometries(ceil=True))
    window, n = axis.windows[0], axis.size[0]
    try:
        count = window.output_size(n)
    except GeometryError:
        assume(False)
    check(window, n, data.draw(st.integers(1, count)))


@pytest.mark.parametrize("window", (Segments(7), Segments(7, overlap=False), Window(3, 6, 1, 9, "circular")))
@pytest.mark.parametrize("outputs", (1, 4, 7))
def test_irregular_and_far_taps(window, outputs):
    for n in (5, 23, 200):
        check(window, n, outputs)


@given(data=st.data())
@drawn
def test_each_row_tap_finds_its_line(data):
    axes = data.draw(geometries(ceil=True))
    windows, sizes = axes.windows[:2], axes.size[:2]
    try:
        expected = geometry.sources(windows, sizes)
    except GeometryError:
        assume(False)
    expected = expected.reshape(-1, expected.shape[-1])
    np.testing.assert_array_equal(row_map(windows, sizes, True).sources, expected)
    rows = row_map(windows, sizes, False)
    size = data.draw(st.integers(1, 5))
    bands, sources, number = rows.tables(size)
    seen = 0
    for first, count, line, lines in bands.view(number, 4).tolist():
        assert count <= size
        here = sources.numpy()[line : line + lines]
        taps = np.arange(rows.depth)[:, None] * rows.depth_step(size) + np.arange(rows.taps) * rows.dilation
        found = here[np.arange(count)[:, None] * rows.step + taps.reshape(-1)]
        np.testing.assert_array_equal(found, expected[first : first + count])
        seen += count
    assert seen == len(expected)


def test_rows_that_are_read_by_as_many_lines_as_there_is_room_for():
    rows = row_map((Window(3), Window(5, 2, 3)), (9, 40), False)
    for lines in range(rows.lines(4), 300, 7):
        count = rows.rows(lines, 4)
        assert count % 4 == 0 and rows.lines(count) <= lines < rows.lines(count + 4)
