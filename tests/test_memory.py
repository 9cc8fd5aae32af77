import ctypes
import sys
from types import SimpleNamespace

from svertka import memory


def test_freed_memory_is_given_back_where_the_c_library_can(monkeypatch):
    asked = []
    monkeypatch.setattr(sys, "platform", "linux")
    for library in (SimpleNamespace(malloc_trim=lambda pad: asked.append(pad)), SimpleNamespace()):
        monkeypatch.setattr(ctypes, "CDLL", lambda _, library=library: library)
        memory._trim.cache_clear()
        memory.give_back()
    memory._trim.cache_clear()
    assert asked == [0]


def test_elsewhere_nothing_is_asked_for(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "CDLL", None)
    memory._trim.cache_clear()
    memory.give_back()
    memory._trim.cache_clear()
