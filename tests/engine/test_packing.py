import weakref

import pytest
import torch
import torch.nn.functional as F
from guarded import guarded

import svertka
from svertka import functional, models
from svertka.engine import dense, doctor, few, packing, planes, pools, winograd
from svertka.engine.launch import Launch
from svertka.kernels.weights import PACK


def holds(x, weight):
    with torch.no_grad(), svertka.using("kernels"):
        torch.testing.assert_close(functional.conv2d(x, weight), F.conv2d(x, weight), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("optimizer", (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW))
@pytest.mark.parametrize("fused", (False, True))
@pytest.mark.parametrize("shape", ((8, 4, 3, 3), (256, 32, 3, 3)))
def test_steps_of_optimizers_are_noticed(optimizer, fused, shape):
    x, weight = torch.randn(1, shape[1], 6, 6), torch.nn.Parameter(torch.randn(shape))
    assert (weight.numel() > packing.COMPARED) == (shape[0] == 256)
    holds(x, weight)
    weight.grad = torch.zeros(shape)
    weight.grad[3, 1, 2, 0] = 5.0  # so that a comparison of some numbers would not do
    stepping = optimizer([weight], 0.5, fused=fused)
    for _ in range(2):
        stepping.step()
        holds(x, weight)


def test_edits_that_torch_does_not_count():
    x, weight = torch.randn(1, 32, 6, 6), torch.randn(256, 32, 3, 3)
    small = weight[:8].clone()
    holds(x, weight)
    holds(x, small)
    small.data[7, 31, 2, 2] += 9
    holds(x, small)
    weight.data.mul_(2)
    holds(x, weight)
    weight.data[5, 5, 1, 1] += 9
    svertka.forget_weights()
    holds(x, weight)
    weight.data = weight.data.flip(0)[:, :, :2, :2]  # with gaps, and at last a view of other numbers there
    holds(x, weight)
    weight.data = torch.as_strided(weight.data, weight.shape, (*weight.stride()[:2], 1, 2), weight.storage_offset())
    holds(x, weight)


@pytest.mark.parametrize(
    "count", (1, 15, 16, 17, 100, packing.COMPARED, packing.COMPARED + 1, 3 * packing.COMPARED + 5)
)
@pytest.mark.parametrize("at_end", (False, True))
def test_the_comparison_sees_each_number_and_no_byte_outside(count, at_end):
    weight = guarded(torch.randn(count), at_end=at_end)
    kept = packing._Kept(weight, lambda weight: weight, ())
    kept.copy = copy = guarded(weight, at_end=at_end)
    kept.same_numbers = kept._comparison(weight)
    assert kept.holds(weight)
    for place in {0, count // 2, count - 1} if count <= packing.COMPARED else {0}:
        copy[place] += 1
        assert not kept.holds(weight)
        copy[place] = weight[place]
    copy[copy.numel() // 3 :] += 1
    assert not kept.holds(weight)


def losses(engine, fused):
    """Of a few steps of LeNet on the same numbers, by direct sums, and of an evaluation after them."""
    torch.manual_seed(0)
    model = models.lenet(1, 10, size=(8, 8), dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, fused=fused)
    x, labels = torch.randn(64, 1, 8, 8), torch.randint(0, 10, (64,))
    found = []
    with svertka.using(engine), svertka.precision("strict"):
        for _ in range(15):
            loss = F.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        with torch.no_grad():
            found.append(float(F.cross_entropy(model.eval()(x), labels)))
    return torch.tensor(found)


def alike(ours, theirs):
    """Roundings of 2⁻²⁴ in sums of some hundred terms, which grow with the steps."""
    return ((ours - theirs).abs() <= 2.0**-24 * 1000 * torch.arange(1, 17) * theirs).all()


@pytest.mark.parametrize("fused", (False, True))
def test_a_network_trains_as_it_does_on_torchs_operations(fused):
    ours, theirs = losses("kernels", fused), losses("portable", fused)
    assert theirs[-1] < 0.5 * theirs[0]
    assert alike(ours, theirs)


def test_training_on_stale_weights_would_be_seen(monkeypatch):
    kept = {}
    for module in (dense, few, winograd):
        monkeypatch.setattr(
            module, "packed_weight", lambda weight, pack: kept.setdefault((id(weight), pack), pack(weight))
        )
    assert not alike(losses("kernels", True), losses("portable", True))


class Forgetful:
    """Stands for a thread that packs the same weight anew: what another has packed lives as long as that holds it."""

    def __init__(self, monkeypatch):
        self.packed, self.launches = [], 0
        for module in (dense, few, planes, pools, winograd):
            monkeypatch.setattr(module, "packed_weight", self.pack)
        call = Launch.__call__

        def looking(launch, *pointers):
            if launch.family is not PACK:
                self.look()
            call(launch, *pointers)

        monkeypatch.setattr(Launch, "__call__", looking)

    def pack(self, weight, pack):
        packed = pack(weight).clone()
        self.packed.append(weakref.ref(packed))
        return packed

    def look(self):
        self.launches += 1
        assert all(packed() is not None for packed in self.packed), "packed weights are gone before they are read"
        self.packed.clear()  # a runner of several parts may let go of what one has read


@pytest.mark.parametrize("precision", ("strict", "fast"))
@pytest.mark.parametrize("case", doctor._cases(), ids=lambda case: type(case.operation).__name__)
@pytest.mark.parametrize("last", (False, True))
def test_packed_weights_live_until_they_are_read(monkeypatch, case, precision, last):
    x = torch.randn(case.shape)
    x = x.contiguous(memory_format=torch.channels_last) if last and x.ndim == 4 else x
    tensors = [t if isinstance(t, torch.Tensor) else torch.rand(t) for t in case.tensors]
    with torch.no_grad(), svertka.using("kernels"), svertka.precision(precision):
        expected = functional.run(case.operation, x, *tensors)
        forgetful = Forgetful(monkeypatch)
        found = functional.run(case.operation, x, *tensors)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert forgetful.launches


def test_weights_that_are_gone_too_early_would_be_seen(monkeypatch):
    forgetful = Forgetful(monkeypatch)
    weight = torch.randn(3)
    address = few.packed_weight(weight, lambda weight: weight).data_ptr()
    assert address and forgetful.packed[0]() is None
    with pytest.raises(AssertionError, match="gone before"):
        forgetful.look()
