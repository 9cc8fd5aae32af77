"""Who is let in: this machine's own page, and nobody else's."""

import pytest
from starlette.testclient import TestClient

from svertka.lab.app import create_app
from svertka.lab.guard import MAX_BODY, Door, Rates, RefusedError

ASKED = {"input": "1 2 3", "kernel": "1 1"}


def client(door: Door | None = None, host: str = "127.0.0.1:8765") -> TestClient:
    return TestClient(create_app(door or Door()), base_url=f"http://{host}", follow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765"])
def test_the_servers_own_names_are_known(host: str) -> None:
    assert client(host=host).post("/api/convolution", json=ASKED).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8765", "192.168.1.5:8765", "",
        "a:b:c",
    ],
)  # fmt: skip
def test_a_rebound_name_is_refused(host: str) -> None:
    for method, path in (("GET", "/"), ("GET", "/api/openapi.json"), ("POST", "/api/convolution")):
        answer = client().request(method, path, headers={"Host": host}, json=ASKED if method == "POST" else None)
        assert answer.status_code == 421
        assert "numbers" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_may_not_ask(headers: dict[str, str]) -> None:
    answer = client().post("/api/convolution", json=ASKED, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["kind"] == "refused"


def test_our_own_page_may_ask() -> None:
    headers = {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}
    assert client().post("/api/convolution", json=ASKED, headers=headers).status_code == 200


def test_a_link_elsewhere_may_lead_to_the_page_but_not_embed_it() -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client().get("/", headers=link).status_code == 200
    assert client().get("/", headers={**link, "Sec-Fetch-Dest": "iframe"}).status_code == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_is_refused(kind: str) -> None:
    answer = client().post("/api/convolution", content=b'{"input": "1 2 3"}', headers={"Content-Type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(method: str) -> None:
    assert client().request(method, "/api/convolution").status_code == 405


def test_every_answer_has_the_headers() -> None:
    for answer in (client().get("/"), client().get("/", headers={"Host": "evil.example"}), client().get("/nothing")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_body_is_bounded_whatever_it_says_of_its_length() -> None:
    def pieces():  # type: ignore[no-untyped-def]
        for _ in range(MAX_BODY // 2**20 + 1):
            yield bytes(2**20)

    headers = {"Content-Type": "application/octet-stream"}
    answer = client().post("/api/picture", content=pieces(), headers=headers)
    assert answer.status_code == 413
    assert answer.json()["kind"] == "refused"


def test_rates_are_bounded_and_come_back() -> None:
    now = [0.0]
    rates = Rates(Door(requests=10, bytes=1000), lambda: now[0])
    for _ in range(30):
        rates.spend("a", 1, 10)
    with pytest.raises(RefusedError):
        rates.spend("a", 1, 10)
    rates.spend("b", 1, 3000)
    with pytest.raises(RefusedError):
        rates.spend("b", 1, 1)
    now[0] += 1
    for _ in range(10):
        rates.spend("a", 1, 10)
    with pytest.raises(RefusedError):
        rates.spend("a", 1, 10)


def test_too_many_requests_are_refused() -> None:
    asking = client(Door(requests=2))
    answers = [asking.post("/api/convolution", json=ASKED).status_code for _ in range(9)]
    assert answers[:6] == [200] * 6
    assert 429 in answers


class TestToken:
    door = Door("0.0.0.0", 8765, "secret-token")

    def test_nothing_is_answered_without_it(self) -> None:
        for path in ("/", "/api/openapi.json", "/?token=wrong", "/?token="):
            assert client(self.door).get(path).status_code == 401
        assert client(self.door).post("/api/convolution", json=ASKED).status_code == 401
        wrong = {"Authorization": "Bearer wrong", "Cookie": "svertka-lab=wrong"}
        assert client(self.door).post("/api/convolution", json=ASKED, headers=wrong).status_code == 401

    def test_the_address_gives_a_cookie_and_loses_the_token(self) -> None:
        asking = client(self.door)
        answer = asking.get("/?token=secret-token")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")
        assert all(word in answer.headers["Set-Cookie"] for word in ("HttpOnly", "SameSite=strict"))
        assert asking.get("/").status_code == 200
        assert asking.post("/api/convolution", json=ASKED).status_code == 200

    def test_a_script_brings_it_along(self) -> None:
        bearer = {"Authorization": "Bearer secret-token"}
        assert client(self.door).post("/api/convolution", json=ASKED, headers=bearer).status_code == 200

    def test_other_addresses_of_the_machine_are_known_but_no_names(self) -> None:
        bearer = {"Authorization": "Bearer secret-token"}
        assert client(self.door, "192.168.1.5:8765").get("/", headers=bearer).status_code == 200
        assert client(self.door, "evil.example:8765").get("/", headers=bearer).status_code == 421


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py", "/%2e%2e/app.py", "/assets/../../app.py", "/..%2fapp.py", "//etc/passwd", "/%00",
        "/assets/%2e%2e/%2e%2e/app.py",
    ],
)  # fmt: skip
def test_no_file_outside_the_page_is_opened(path: str) -> None:
    answer = client().get(path)
    assert answer.status_code in (404, 405)
    assert "Starlette" not in answer.text
    assert "root:" not in answer.text
