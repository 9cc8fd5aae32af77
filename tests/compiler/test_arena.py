import random

from svertka.compiler.arena import LINE, offsets


def overlapping(buffers, places):
    """Pairs that live at the same time and share a byte."""
    found = []
    for i, (size, first, last) in enumerate(buffers):
        for j, (other, since, until) in enumerate(buffers[:i]):
            at_once = first <= until and since <= last
            if at_once and places[i] < places[j] + other and places[j] < places[i] + size:
                found.append((i, j))
    return found


def test_nothing_that_lives_at_the_same_time_overlaps():
    chance = random.Random(0)
    for _ in range(200):
        buffers = []
        for _ in range(chance.randint(0, 30)):
            first = chance.randint(0, 20)
            buffers.append((chance.randint(1, 1000), first, first + chance.randint(0, 6)))
        places, size = offsets(buffers)
        assert not overlapping(buffers, places)
        assert all(place % LINE == 0 and place + n <= size for place, (n, _, _) in zip(places, buffers, strict=True))
    assert overlapping([(8, 0, 1), (8, 1, 2)], [0, 4])


def test_memory_is_used_again():
    chain = [(640, i, i + 1) for i in range(10)]
    assert offsets(chain)[1] == 2 * 640
    assert offsets([]) == ([], 0)
