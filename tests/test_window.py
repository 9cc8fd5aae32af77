"""The index map: held against numpy.pad, torch, brute force and its own algebra."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from svertka.errors import GeometryError
from svertka.window import MODES, Segments, TransposedWindow, Window, extend, sources

NUMPY_MODES = {"replicate": "edge", "reflect": "reflect", "symmetric": "symmetric", "circular": "wrap"}
quick = settings(max_examples=200, deadline=None, derandomize=True)


@st.composite
def windows(draw, largest=4, modes=("zeros",), ceil=False):
    """A window with its padding in numbers."""
    return Window(
        draw(st.integers(1, largest)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        (draw(st.integers(0, 5)), draw(st.integers(0, 5))),
        draw(st.sampled_from(modes)),
        draw(st.booleans()) if ceil else False,
    )


def fits(window, n):
    try:
        window.output_size(n)
    except GeometryError:
        return False
    return True


def by_hand(window, n):
    """The definition, tap by tap, on the line that numpy.pad makes."""
    before, after = window.pads(n)
    if window.mode == "zeros":
        line = [-1] * before + list(range(n)) + [-1] * after
    else:
        line = list(np.pad(np.arange(n), (before, after), mode=NUMPY_MODES[window.mode]))
    rows = []
    for start in range(0, len(line), window.stride):
        taps = [start + t * window.dilation for t in range(window.size)]
        if taps[-1] >= len(line):
            left_over = start - window.stride + window.extent < len(line)  # by the window before
            if not (window.ceil_mode and left_over and start < n + before):
                break
        rows.append([line[t] if t < len(line) else -1 for t in taps])
    return np.array(rows)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_extend_is_numpys_periodic_extension(mode, n):
    places = np.arange(-25, 30)
    if mode == "zeros":
        expected = np.where((places >= 0) & (places < n), places, -1)
    else:
        expected = np.pad(np.arange(n), (25, 30 - n), mode=NUMPY_MODES[mode])
    assert (extend(places, n, mode) == expected).all()
    assert (extend(torch.from_numpy(places), n, mode).numpy() == expected).all()
    assert [extend(int(place), n, mode) for place in places] == expected.tolist()


@quick
@given(windows(modes=MODES, ceil=True), st.integers(1, 9))
def test_sources_are_the_definition(window, n):
    assume(fits(window, n))
    table = window.sources(n)
    assert table.dtype == np.int64
    assert table.shape == (window.output_size(n), window.size)
    assert (table == by_hand(window, n)).all()
    assert (window.sources(n, torch).numpy() == table).all()


def test_the_comparison_with_the_definition_can_fail():
    assert not np.array_equal(Window(3, padding=1, mode="reflect").sources(5), by_hand(Window(3, padding=1), 5))


@quick
@given(windows(ceil=True), st.integers(1, 12))
def test_output_size_is_torchs(window, n):
    assume(2 * max(window.padding) <= window.size and window.padding[0] == window.padding[1])
    sizes, padding = (1, window.size), (0, window.padding[0])
    pool = torch.nn.MaxPool2d(sizes, (1, window.stride), padding, (1, window.dilation), ceil_mode=window.ceil_mode)
    if fits(window, n):
        assert pool(torch.zeros(1, 1, 1, n)).shape[-1] == window.output_size(n)
    else:
        with pytest.raises(RuntimeError):
            pool(torch.zeros(1, 1, 1, n))


@quick
@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(1, 20))
def test_same_is_tensorflows(size, stride, dilation, n):
    total = max(0, (-(-n // stride) - 1) * stride + (size - 1) * dilation + 1 - n)
    upper = Window(size, stride, dilation, "same_upper")
    lower = Window(size, stride, dilation, "same_lower")
    assert upper.output_size(n) == lower.output_size(n) == -(-n // stride)
    assert upper.pads(n) == (total // 2, total - total // 2)
    assert lower.pads(n) == upper.pads(n)[::-1]
    assert upper.at(n).padding == upper.pads(n)
    assert (upper.at(n).sources(n) == upper.sources(n)).all()
    if stride == 1:
        assert Window(size, 1, dilation, "same").padding == upper.padding


@quick
@given(windows(), windows(), windows(), st.integers(1, 40))
def test_composition_follows_what_the_outputs_see(first, second, third, n):
    assume(fits(first, n) and fits(second, first.output_size(n)))
    middle = first.output_size(n)
    both = first.then(second)
    assert both.output_size(n) == second.output_size(middle)
    inner, outer = first.places(n), second.sources(middle)
    for row, places in zip(outer, both.places(n), strict=True):
        if (row >= 0).all():  # no tap of the second window is on its padding
            seen = np.unique(inner[row])
            assert (seen.min(), seen.max()) == (places[0], places[-1])
            assert np.isin(seen, places).all()
            if both.dilation > 1:
                assert (seen == places).all()
    one, other = first.then(second).then(third), first.then(second.then(third))
    assert (one.extent, one.stride, one.offset) == (other.extent, other.stride, other.offset)


def test_composition_by_known_numbers():
    lenet = Window(5).then(Window(2, 2)).then(Window(5)).then(Window(2, 2))
    assert (lenet.extent, lenet.stride, lenet.offset) == (16, 4, 0)
    assert Window(3, dilation=2).then(Window(3, dilation=2)) == Window(5, dilation=2)
    assert Window(1, 2).then(Window(3)) == Window(3, 2, 2)
    assert Window(1).then(Window(1)) == Window(1)
    stem = Window(7, 2, padding=3).then(Window(3, 2, padding=1))
    assert (stem.extent, stem.stride, stem.offset) == (11, 4, -5)


@quick
@given(windows(), windows(), st.integers(6, 20))
def test_union_covers_both_branches(one, other, n):
    assume(one.stride == other.stride and fits(one, n) and fits(other, n))
    both = one.union(other)
    assert both.offset == min(one.offset, other.offset)
    assert both.offset + both.extent == max(one.offset + one.extent, other.offset + other.extent)
    assert both.output_size(n) == one.output_size(n)
    assert one.union(one).extent == one.extent


def test_branches_that_drift_apart_have_no_union():
    with pytest.raises(GeometryError, match="strides 1 and 2"):
        Window(3).union(Window(3, 2))


@quick
@given(windows(modes=MODES, ceil=True), st.integers(1, 9))
def test_adjoint_is_the_transposed_index_map(window, n):
    assume(fits(window, n))
    table, adjoint = window.sources(n), window.adjoint(n)
    for i in range(n):
        pairs = slice(adjoint.starts[i], adjoint.starts[i + 1])
        found = set(zip(adjoint.outputs[pairs].tolist(), adjoint.taps[pairs].tolist(), strict=True))
        assert found == set(zip(*(axis.tolist() for axis in np.nonzero(table == i)), strict=True))


@quick
@given(windows(), st.integers(1, 6), st.integers(0, 2))
def test_transposed_window_is_the_adjoint_of_its_window(window, m, extra):
    assume(extra < max(window.stride, window.dilation))
    transposed = TransposedWindow(window, extra)
    assume(fits(transposed, m))
    n = transposed.output_size(m)
    assume(fits(window, n))
    assert window.output_size(n) >= m  # the very size, unless output_padding made room for more
    reads = window.sources(n)
    for output, row in enumerate(transposed.sources(m)):
        for tap, source in enumerate(row.tolist()):
            forward = {o for o in np.flatnonzero(reads[:, tap] == output).tolist() if o < m}
            assert forward == ({source} if source >= 0 else set())


@quick
@given(st.integers(1, 12), st.integers(1, 30))
def test_overlapping_segments_are_torchs_adaptive_pooling(count, n):
    table = Segments(count).sources(n)
    assert table.shape == (count, Segments(count).longest(n))
    assert (table >= 0).sum(1).max() == Segments(count).longest(n)
    x = torch.randn(1, 1, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.adaptive_max_pool1d(x, count)[0, 0]
    assert [max(x[0, 0, i].item() for i in row if i >= 0) for row in table] == expected.tolist()


@quick
@given(st.integers(1, 12), st.integers(1, 30))
def test_dividing_segments_share_nothing_and_leave_nothing_out(count, n):
    table = Segments(count, overlap=False).sources(n)
    seen = table[table >= 0]
    lengths = (table >= 0).sum(1)
    assert lengths.max() - lengths.min() <= 1
    assert set(seen.tolist()) == set(range(n))
    if count <= n:
        assert seen.tolist() == list(range(n))


def test_the_map_in_several_dimensions_is_row_major():
    pair = (Window(2), Window(2, 2, padding=(1, 0), mode="circular"))
    table = sources(pair, (3, 4))
    assert table.shape == (2, 2, 4)
    assert table[0, 0].tolist() == [3, 0, 7, 4]
    assert table[1, 1].tolist() == [5, 6, 9, 10]
    assert (sources(pair, (3, 4), torch).numpy() == table).all()
    assert sources((Window(3, padding=1),), (4,))[0].tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 2.5}, "size=2.5"),
        ({"size": 3, "stride": 0}, "stride=0"),
        ({"size": 3, "dilation": -1}, "dilation=-1"),
        ({"size": 3, "padding": "some"}, "valid, same, same_upper, same_lower"),
        ({"size": 3, "padding": (1, 2, 3)}, "3 entries"),
        ({"size": 3, "padding": 1.5}, "1.5"),
        ({"size": 3, "padding": "same", "stride": 2}, "same_upper"),
        ({"size": 3, "mode": "reflekt"}, "zeros, replicate, reflect, symmetric, circular"),
        ({"size": 3, "mode": "constant"}, "'replicate' in the lecture and 'zeros' in torch"),
        ({"size": 3, "mode": "mirror"}, "'symmetric'"),
        ({"size": 3, "mode": "cyclic"}, "'circular'"),
        ({"size": 3, "mode": "wrap"}, "'circular'"),
        ({"size": 3, "mode": "edge"}, "'replicate'"),
    ],
)
def test_what_makes_no_window_is_told_in_one_sentence(arguments, words):
    with pytest.raises(GeometryError) as caught:
        Window(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RuntimeError)


def test_sizes_that_fit_no_window_are_told():
    with pytest.raises(GeometryError, match=r"5 taps .* larger than the padded input \(3 \+ 0 \+ 0\)"):
        Window(5).output_size(3)
    with pytest.raises(GeometryError, match="axis is empty"):
        Window(1, padding=2, mode="circular").sources(0)
    with pytest.raises(GeometryError, match="at least one input"):
        Segments(2).output_size(0)
    with pytest.raises(GeometryError, match=r"at\(n\) first"):
        Window(3, 2, padding="same_upper").then(Window(2))
    with pytest.raises(GeometryError, match="output padding must be smaller"):
        TransposedWindow(Window(3, 2), 2)
    with pytest.raises(GeometryError, match="'zeros' only"):
        TransposedWindow(Window(3, mode="circular"))


@quick
@given(windows(), st.integers(1, 9))
def test_missing_inputs_are_those_that_one_window_lacks(window, n):
    missing = window.missing(n)
    assert (missing == 0) == fits(window, n)
    assert fits(window, n + missing)
    assert not missing or not fits(window, n + missing - 1)


def test_nothing_is_missing_where_the_padding_makes_up_for_it():
    assert Window(5).missing(3) == 2
    assert Window(3, 1, 4, padding=(1, 2)).missing(3) == 3
    assert Window(5, 2, padding="same_upper").missing(1) == 0


def test_windows_are_values():
    assert Window(3, padding=1) == Window(3, padding=(1, 1)) == Window(3, padding="same")
    assert hash(Window(3, padding="valid")) == hash(Window(3))
    with pytest.raises(AttributeError):
        Window(3).size = 4  # type: ignore[misc]
