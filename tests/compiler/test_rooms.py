"""Results are their caller's own, and their memory is used again when nobody has them."""

import threading

import torch
from torch import nn

import svertka
from svertka.compiler.rooms import LARGE, Rooms

SHAPE = (LARGE // 4 + 64,)
LIKE = [(SHAPE, (1,), torch.float32), ((3,), (1,), torch.float32)]


def test_memory_is_used_again_once_it_is_free():
    rooms = Rooms(LIKE)
    first, small = rooms()
    where = first.data_ptr()
    assert rooms()[0].data_ptr() != where
    first, small = rooms()
    where = first.data_ptr()
    del first
    assert rooms()[0].data_ptr() == where
    assert small.shape == (3,)
    assert rooms.bytes >= LARGE


def test_whoever_holds_a_result_keeps_it():
    holders = (
        lambda x: x[1:],
        lambda x: x.numpy(),
        lambda x: x.untyped_storage(),
        lambda x: x.detach(),
        torch.utils.dlpack.to_dlpack,
        lambda x: x.view(torch.int32),
        lambda x: memoryview(x.numpy()),
    )
    for hold in holders:
        rooms = Rooms(LIKE)
        where, kept = (lambda x: (x.data_ptr(), hold(x)))(rooms()[0])
        assert rooms()[0].data_ptr() != where, hold
        del kept


def test_memory_that_was_moved_or_cut_is_left():
    for change in (lambda x: x.share_memory_(), lambda x: x.untyped_storage().resize_(8)):
        rooms = Rooms(LIKE)
        change(rooms()[0])
        assert rooms()[0].untyped_storage().nbytes() >= LARGE
        assert not rooms()[0].is_shared()


def test_results_of_networks_are_the_callers_own_in_all_threads():
    torch.manual_seed(0)
    model = nn.Conv2d(1, 8, 3, padding=1).eval()
    batches = [torch.randn(4, 1, 128, 96) for _ in range(4)]
    compiled, wrong = svertka.compile(model, batches[0]), []
    with torch.no_grad():
        expected = [compiled(x) for x in batches]
        assert compiled.kinds and expected[0].nbytes >= LARGE

    def work(index):
        with torch.no_grad():
            held = []
            for turn in range(40):
                held.append(compiled(batches[index]))
                if turn % 3 == 0:
                    held.pop(0)
                wrong.extend(1 for found in held[-3:] if not torch.equal(found, expected[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(not found._is_view() for found in expected)
