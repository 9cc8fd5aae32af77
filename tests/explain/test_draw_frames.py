"""Frames say what the steps say: the cells under a window are its terms, whatever the operation."""

import itertools

import numpy as np
import pytest
import torch
from geometries import drawn
from hypothesis import given
from operations import explained

import svertka
from svertka import nn, spec
from svertka.explain.draw.frames import SLICES, Frames
from svertka.explain.draw.style import number
from svertka.explain.steps import Steps


@drawn
@given(explained())
def test_the_cells_under_the_window_are_the_terms_of_the_step(case):
    bound, x = case
    steps = Steps(bound, x)
    frames = Frames(steps, "title", steps.output.shape[0] - 1)
    assert [frame.step.output[1:] for frame in frames] == frames.positions
    resting = {(frame.page, tuple(p.cells for p in (*frame.inputs, *frame.kernels, frame.output))) for frame in frames}
    assert len(resting) == len({frame.page for frame in frames})  # what is drawn once for all holds for all
    for frame in frames:
        assert window_of(frame) == terms_of(frame, bound.operation)
        current = frame.output.active[0]
        assert (current.role, current.text) == ("current", frame.output.cells[frame.done].text)
        assert frame.formula[-1] == f"= {number(frame.step.result)}"
        for panel in (*frame.inputs, *frame.kernels, frame.output):
            assert all(0 <= c.row < panel.rows and 0 <= c.column < panel.columns for c in (*panel.cells, *panel.active))


def window_of(frame):
    """(text, on padding?, chosen?) of all cells under the window that something stands in, in no order."""
    cells = [cell for panel in frame.inputs for cell in panel.active if cell.role != "window-nothing"]
    return sorted((cell.text, cell.role == "window-padding", cell.marked) for cell in cells)


def terms_of(frame, operation):
    """The same of the step's terms, of the slices that are drawn."""
    terms = frame.step.terms
    slices = [[*group] for _, group in itertools.groupby(terms, key=lambda t: (t.channel, t.tap[:-2]))]
    # A slice whose window holds nothing but gaps has no terms; then which ones are drawn can't be told from them.
    shown = slices[:SLICES] if len(terms) and len(slices) > len(frame.inputs) else slices
    zero = {spec.MaxPool: "−∞"}.get(type(operation), "0")
    if not getattr(operation, "count_include_pad", True):
        zero = ""
    if isinstance(operation, spec.Pad):
        zero = number(operation.value)
    padded = not isinstance(operation, spec.TransposedConvolution)
    return sorted(
        (zero if t.source is None else short(t.value), padded and t.on_padding, t.chosen)
        for part in shown
        for t in part
    )


def short(value):
    return number(value, decimals=2 if abs(value) >= 0.1 else 3)


def frames_of(layer, x, **named):
    return svertka.explain(layer, x).frames(**named)


def test_a_padding_shows_where_its_value_came_from():
    panel = frames_of(nn.Conv1d(1, 1, 3, padding=2, padding_mode="symmetric"), [1, 2, 3])[0].inputs[0]
    assert [(c.text, c.role, c.origin) for c in panel.cells[:3]] == [
        ("2", "padding", "1"), ("1", "padding", "0"), ("1", "input", ""),
    ]  # fmt: skip
    assert [c.role for c in panel.active] == ["window-padding", "window-padding", "window"]
    zeros = frames_of(nn.MaxPool1d(3, 1, padding=1), [1, 2, 3])[0].inputs[0].cells[0]
    assert (zeros.text, zeros.origin) == ("−∞", "")


def test_in_two_dimensions_the_weights_stand_at_the_corners_as_on_the_slide():
    layer = nn.Conv2d(1, 1, 2, bias=False)
    layer.weight.data = torch.tensor([[[[0.0, 1], [1, -1]]]])
    frame = frames_of(layer, [[1, 2, 3], [3, 4, 5], [1, 0, 2]])[3]
    assert [(c.text, c.corner) for c in frame.inputs[0].active] == [("4", "0"), ("5", "1"), ("0", "1"), ("2", "−1")]
    assert frame.inputs[0].outline == (1, 1, 2, 2)
    assert [c.text for c in frame.kernels[0].cells] == ["0", "1", "1", "−1"]
    assert frame.formula == ("4·0", "+ 5·1", "+ 0·1", "+ 2·(−1)", "= 3")
    assert frame.done == 3 and [c.text for c in frame.output.cells] == ["1", "2", "5", "3"]


def test_a_dilated_window_has_holes():
    frame = frames_of(nn.Conv2d(1, 1, 2, dilation=2), np.arange(16).reshape(4, 4))[0]
    assert [(c.row, c.column) for c in frame.inputs[0].active] == [(0, 0), (0, 2), (2, 0), (2, 2)]
    assert frame.inputs[0].outline == (0, 0, 3, 3)


def test_a_transposed_window_moves_over_inputs_set_apart_and_its_kernel_is_turned_round():
    layer = nn.ConvTranspose1d(1, 1, 3, 2, bias=False)
    layer.weight.data = torch.tensor([[[1.0, 2, 3]]])
    frames = frames_of(layer, [5, 7])
    assert frames.steps.output.tolist() == [[5, 10, 22, 14, 21]]
    frame = frames[2]
    assert [c.text for c in frame.inputs[0].cells] == ["", "", "5", "", "7", "", ""]
    assert [(c.text, c.role) for c in frame.inputs[0].active] == [
        ("5", "window"), ("", "window-nothing"), ("7", "window"),
    ]  # fmt: skip
    assert [(c.text, c.role) for c in frame.kernels[0].active] == [("3", "kernel"), ("2", "idle"), ("1", "kernel")]
    assert "turned round" in frame.notes[0]


def test_an_unshared_kernel_changes_with_the_place():
    layer = nn.LocallyConnected2d(1, 1, 2, input_size=3)
    frames = frames_of(layer, np.ones((3, 3)))
    kernels = [[c.text for c in frame.kernels[0].active] for frame in frames]
    assert len({tuple(kernel) for kernel in kernels}) == 4 and not frames[0].kernels[0].cells


def test_pools_say_what_they_do():
    x = [[1, 2, 0, 3], [0, 5, -1, 0]]
    chosen = frames_of(nn.MaxPool2d(2), x)[0].inputs[0].active
    assert [c.text for c in chosen if c.marked] == ["5"]
    mean = frames_of(nn.AvgPool2d(2), x)[0]
    assert {c.corner for c in mean.inputs[0].active} == {"1/4"} and mean.formula[-2] == "/ 4"
    norm = frames_of(nn.LPPool2d(2, 2), x)[1]
    assert norm.formula == ("√(0² +", "3² +", "|−1|² +", "0²)", "= 3.16")
    share = frames_of(nn.StochasticPool2d(2), x)[0]
    assert [c.corner for c in share.inputs[0].active] == ["0.12", "0.25", "0", "0.62"]
    largest = frames_of(nn.KMaxPool1d(2), [3, 1, 5])
    assert [[c.text for c in frame.inputs[0].active if c.marked] for frame in largest] == [["3"], ["5"]]
    assert largest[1].formula[:1] == ("no. 2 of the 2 largest of (3,",)
    uneven = frames_of(nn.AdaptiveMaxPool1d(3), [1, 2, 3, 4])
    assert [len(frame.inputs[0].active) for frame in uneven] == [2, 2, 2]
    outside = frames_of(nn.Pad1d((1, 0), "replicate"), [7, 8])[0]
    assert outside.formula == ("the padding repeats the input at 0", "= 7")
    counted = frames_of(nn.AvgPool1d(2, 1, padding=1, count_include_pad=False), [7, 8])[0]
    assert counted.formula == ("7", "= 7") and [c.corner for c in counted.inputs[0].active] == ["", "1/1"]


def test_the_channels_of_a_group_are_drawn_and_named():
    frames = frames_of(nn.Conv2d(6, 4, 1, groups=2), torch.ones(6, 2, 2), channel=3)
    frame = frames[0]
    assert [p.caption for p in frame.inputs] == ["Input, channel 3", "Input, channel 4", "Input, channel 5"]
    assert [p.caption for p in frame.kernels] == ["Kernel, channel 3", "Kernel, channel 4", "Kernel, channel 5"]
    assert frame.output.caption == "Output, channel 3" and not frame.notes
    many = frames_of(nn.Conv2d(8, 1, 1), torch.ones(8, 2, 2))[0]
    assert len(many.inputs) == 3 and many.notes == ("3 of 8 channels of the input are drawn; the sum has them all.",)
    assert len(many.formula) == 8 + 2


def test_three_dimensions_are_drawn_slice_by_slice():
    frames = frames_of(nn.Conv3d(1, 1, 2, padding=(1, 0, 0)), torch.ones(1, 2, 3, 3))
    assert len(frames) == 3 * 2 * 2
    captions = [[panel.caption for panel in frame.inputs] for frame in frames[::4]]
    assert captions == [[f"Input, depth {i}", f"Input, depth {j}"] for i, j in (("−1", 0), (0, 1), (1, 2))]
    assert {c.role for c in frames[0].inputs[0].cells} == {"padding"}
    assert [frame.output.caption for frame in frames[::4]] == ["Output, depth 0", "Output, depth 1", "Output, depth 2"]
    assert len({frame.page for frame in frames}) == 3


def test_a_large_input_is_cut_to_a_region_that_is_named():
    layer = nn.Conv2d(3, 8, 7, 2, 3)
    frames = frames_of(layer, torch.rand(3, 224, 224))
    assert frames[0].inputs[0].rows <= 16 and frames[0].notes[0] == "Cut to the outputs at 0 … 4 × 0 … 4 of 112×112."
    around = frames_of(layer, torch.rand(3, 224, 224), at=(50, 111))
    assert (50, 111) in around.positions and around[around.number_of((50, 111))].step.output == (0, 50, 111)
    whole = frames_of(nn.Conv2d(1, 1, 3, padding=1), torch.rand(11, 11))
    assert len(whole) == 121 and not whole.notes
    wide = frames_of(nn.Conv1d(1, 1, 40), torch.rand(100))
    assert len(wide[0].inputs[0].active) == 40


def test_long_sums_are_cut_in_the_middle_and_still_add_up():
    frame = frames_of(nn.Conv2d(3, 1, 7), torch.rand(3, 7, 7))[0]
    middle = next(piece for piece in frame.formula if "more terms" in piece)
    assert len(frame.formula) == 42 and "[108 more terms]" in middle


def test_a_frame_is_asked_for_by_number():
    frames = frames_of(nn.MaxPool1d(2), range(6))
    assert frames[-1] == frames[2] and frames[1:] == [frames[1], frames[2]]
    with pytest.raises(IndexError):
        frames[3]
