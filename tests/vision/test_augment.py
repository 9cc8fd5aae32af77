"""Augmentation: each change is one that its definition allows, drawn for each picture by itself, fixed by the seed."""

import pytest
import torch

from svertka.errors import DataError
from svertka.vision.augment import Augmentation


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=64, channels=1, height=9, width=7, seed=0):
    return torch.randint(0, 256, (count, channels, height, width), generator=generator(seed), dtype=torch.uint8)


def shifted(picture, rows, columns):
    """Moved up and left, the edge repeated: by plain indexing."""
    height, width = picture.shape[-2:]
    row = [min(max(i + rows, 0), height - 1) for i in range(height)]
    column = [min(max(i + columns, 0), width - 1) for i in range(width)]
    return picture[:, row][:, :, column]


ALL = Augmentation(shift=2, flip=True, crop=0.2, contrast=0.3)


def test_the_default_changes_nothing():
    batch = pictures()
    assert torch.equal(Augmentation()(batch, generator()), batch)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_is_one_of_those_allowed_and_all_of_them_occur(channels):
    batch = pictures(400, channels)
    result = Augmentation(shift=1)(batch, generator())
    seen = set()
    for before, after in zip(batch, result, strict=True):
        moves = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if torch.equal(shifted(before, r, c), after)]
        assert len(moves) == 1
        seen.update(moves)
    assert len(seen) == 9


def test_a_shift_beyond_the_picture_repeats_its_edge():
    batch = pictures(50, 1, 3, 3)
    result = Augmentation(shift=10)(batch, generator())
    assert result.shape == batch.shape
    assert all(
        set(after.unique().tolist()) <= set(before.unique().tolist())
        for before, after in zip(batch, result, strict=True)
    )


def test_a_flip_turns_about_half_of_the_pictures():
    batch = pictures(400, 3)
    result = Augmentation(flip=True)(batch, generator())
    turned = [torch.equal(after, before.flip(-1)) for before, after in zip(batch, result, strict=True)]
    kept = [torch.equal(after, before) for before, after in zip(batch, result, strict=True)]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert 150 < sum(turned) < 250


def test_a_crop_shows_a_part_scaled_up():
    height, width = 40, 60
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    batch = torch.stack([y, x])[None].repeat(200, 1, 1, 1)
    result = Augmentation(crop=0.5)(batch, generator())
    inner = result[:, :, 2:-2, 2:-2]  # the border is held, not continued
    step_y = inner[:, 0].diff(dim=1)
    step_x = inner[:, 1].diff(dim=2)
    scale = step_y.mean((1, 2))
    torch.testing.assert_close(step_y, scale[:, None, None].expand_as(step_y), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        step_x, scale[:, None, None].expand_as(step_x), rtol=0, atol=1e-3
    )  # proportions are kept
    assert 0.5 <= scale.min() < 0.55
    assert 0.95 < scale.max() <= 1
    assert (result[:, 0] >= 0.5).all()
    assert (result[:, 0] <= height - 0.5).all()
    top, bottom = result[:, 0, 0].mean(1), height - result[:, 0, -1].mean(1)
    assert top.corrcoef() == 1
    assert (top < 2).any()
    assert (bottom < 2).any()


def test_contrast_scales_the_distance_from_the_mean():
    batch = pictures(200).float()
    result = Augmentation(contrast=0.4)(batch, generator())
    mean = batch.mean((1, 2, 3), keepdim=True)
    factor = ((result - mean) / (batch - mean)).median(3).values.median(2).values
    torch.testing.assert_close(result, (batch - mean) * factor[..., None, None] + mean, rtol=1e-3, atol=0.1)
    assert 0.6 <= factor.min() < 0.65
    assert 1.35 < factor.max() <= 1.4


def test_bytes_are_rounded_and_never_wrap_around():
    black_and_white = torch.zeros(100, 1, 8, 8, dtype=torch.uint8)
    black_and_white[..., 4:] = 255
    result = Augmentation(contrast=1.0)(black_and_white, generator())
    assert result.dtype == torch.uint8
    assert (result[..., :4] <= 128).all()
    assert (result[..., 4:] >= 127).all()
    exact = Augmentation(contrast=1.0)(black_and_white.double(), generator()).clamp(0, 255)
    assert (exact - result).abs().max() <= 0.51


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_shape_type_and_input_are_kept(dtype):
    batch = pictures(5, 3).to(dtype)
    before = batch.clone()
    for augmentation in (Augmentation(shift=1), Augmentation(crop=0.3), Augmentation(contrast=0.3), ALL):
        result = augmentation(batch, generator())
        assert (result.shape, result.dtype) == (batch.shape, batch.dtype)
        assert torch.equal(batch, before)


def test_the_same_seed_gives_the_same_and_another_one_does_not():
    batch = pictures(channels=3)
    assert torch.equal(ALL(batch, generator(1)), ALL(batch, generator(1)))
    assert not torch.equal(ALL(batch, generator(1)), ALL(batch, generator(2)))


def test_threads_do_not_change_a_bit():
    batch = pictures(16, 3, 96, 96)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(ALL(batch, generator()))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    ALL(pictures(), generator())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_batch_stays_empty():
    assert ALL(pictures(0, 3), generator()).shape == (0, 3, 9, 7)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"shift": -1}, "shift"),
        ({"shift": 1.5}, "shift"),
        ({"crop": 1.0}, "crop"),
        ({"crop": -0.1}, "crop"),
        ({"crop": float("nan")}, "crop"),
        ({"contrast": 1.1}, "contrast"),
        ({"contrast": -0.1}, "contrast"),
    ],
)
def test_impossible_values_are_named(arguments, name):
    with pytest.raises(DataError, match=f"the {name} .*: give"):
        Augmentation(**arguments)
