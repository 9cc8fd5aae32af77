"""Every address of the lab's API, walked by its OpenAPI document, given bodies that fit, nearly fit, or don't."""

import json
import math

import hypothesis.strategies as st
import pytest
from fuzz.amount import drawn
from fuzz.damage import changed, damaged, fenced, odd, written
from hypothesis import given, note
from starlette.testclient import TestClient

from svertka.lab.api import document
from svertka.lab.app import create_app
from svertka.lab.guard import Door
from svertka.lab.rooms import ENDPOINTS

DOCUMENT = document(ENDPOINTS)
ADDRESSES = sorted(path for path, methods in DOCUMENT["paths"].items() if "post" in methods)
WORDS = ("1 2 3", "1 2; 3 4", "1, 2\n3, 4", "1 | 2", "", "x", "9" * 400, "-1 0 1", "same", "valid", "digits", "../..")


def resolved(schema):
    """A schema without references at its top."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


@st.composite
def fitting(draw, schema, depth=0):
    """A value that a schema describes, as far as it tells."""
    schema = resolved(schema)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return draw(fitting(draw(st.sampled_from(schema[key])), depth))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "default" in schema and draw(st.booleans()):
        return schema["default"]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        needed = schema.get("required", ())
        names = [name for name in schema.get("properties", {}) if name in needed or draw(st.booleans())]
        return {name: draw(fitting(schema["properties"][name], depth + 1)) for name in names}
    if kind == "array":
        prefix = [draw(fitting(part, depth + 1)) for part in schema.get("prefixItems", ())]
        least = max(schema.get("minItems", 0) - len(prefix), 0)
        most = min(schema.get("maxItems", 4) - len(prefix), least + 3)
        rest = schema.get("items", {})
        count = draw(st.integers(least, most)) if isinstance(rest, dict) and most >= least and rest else 0
        return prefix + [draw(fitting(rest, depth + 1)) for _ in range(count)]
    if kind == "integer":
        low = schema.get("minimum", schema.get("exclusiveMinimum", -2) + ("exclusiveMinimum" in schema))
        return draw(st.integers(int(low), int(min(schema.get("maximum", low + 40), low + 10**4))))
    if kind == "number":
        low, high = schema.get("minimum", -10.0), schema.get("maximum", 10.0)
        return draw(st.floats(low, max(low, high), allow_nan=False))
    return {
        "boolean": draw(st.booleans()),
        "null": None,
        "string": draw(st.sampled_from(WORDS) | st.text(max_size=8)),
    }.get(kind)


def operation(address):
    return DOCUMENT["paths"][address]["post"]


@st.composite
def requests(draw, address):
    """(query, body) for an address."""
    content = operation(address)["requestBody"]["content"]
    if "application/json" in content:
        body = draw(fitting(content["application/json"]["schema"]))
        how = draw(st.integers(0, 4))
        if how == 0:
            return {}, draw(damaged(written(body)))
        return {}, written(draw(changed(body, 3)) if how == 1 else odd(draw) if how == 2 else body)
    query = {p["name"]: draw(fitting(p["schema"])) for p in operation(address)["parameters"] if draw(st.booleans())}
    return {name: str(value) for name, value in query.items()}, draw(damaged(b"\x89PNG\r\n\x1a\n" + bytes(60)))


@pytest.fixture(scope="module")
def client():
    door = Door(requests=10**9, bytes=10**12)
    with TestClient(create_app(door), base_url="http://127.0.0.1:8765", raise_server_exceptions=True) as found:
        yield found


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address(client, address):
    @drawn(12, 0.02)
    @given(requests(address))
    def ask(request):
        query, body = request
        note(f"{address} {query} {body[:300]!r}")
        kind = next(iter(operation(address)["requestBody"]["content"]))
        with fenced(most=600 << 20):
            answer = client.post(address, params=query, content=body, headers={"Content-Type": kind})
            assert answer.status_code in (200, 413, 415, 422), (answer.status_code, answer.text[:300])
            if answer.status_code == 422:
                said = answer.json()["message"]
                assert said and "\n" not in said and len(said) < 3000
            elif answer.status_code == 200 and answer.headers["content-type"].startswith("application/json"):
                json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    ask()


def test_what_is_drawn_is_often_answered(client):
    """Else only refusals would have been looked at."""
    right, wrong = [], []

    @drawn(40, 0.0)
    @given(st.data())
    def ask(data):
        address = data.draw(
            st.sampled_from([a for a in ADDRESSES if "application/json" in str(operation(a)["requestBody"])])
        )
        body = data.draw(fitting(operation(address)["requestBody"]["content"]["application/json"]["schema"]))
        answer = client.post(address, content=written(body), headers={"Content-Type": "application/json"})
        (right if answer.status_code == 200 else wrong).append(answer.status_code)

    ask()
    assert len(right) >= 3, (len(right), len(wrong))
    assert math.isfinite(len(wrong))
