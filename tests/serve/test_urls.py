"""Images by URL: those of the internet are predicted, and nothing that only the server can reach is ever asked for."""

from __future__ import annotations

import asyncio
import http.server
import json
import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import httpx
import pytest
from handmade_run import make_world
from live_server import FORM, expected, probabilities, served

from kaggle_kit.errors import ImageError
from kaggle_kit.serve import Limits
from kaggle_kit.serve import urls as fetching
from kaggle_kit.serve.urls import Fetcher, is_public

HERE = ip_address("127.0.0.1")


@dataclass
class Site:
    """A server on this machine that notes what it is asked for."""

    port: int
    asked: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"


@pytest.fixture
def site():
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/")
            made.asked.append(path)
            made.hosts.append(self.headers["Host"])
            if path in made.redirects:
                self.send_response(302)
                self.send_header("Location", made.redirects[path])
                self.end_headers()
            elif path == "endless":
                self.send_response(200)
                self.end_headers()
                while not made.over.is_set():
                    self.wfile.write(bytes(1000))
            elif path == "silent":
                made.over.wait(20)
            else:
                self.send_response(200 if path in made.files else 404)
                self.end_headers()
                self.wfile.write(made.files.get(path, b""))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        made = Site(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made
        made.over.set()
        server.shutdown()
        thread.join(10)


def fetcher(**options) -> Fetcher:
    """One that may ask the server of the test, and nobody else."""
    return Fetcher(**{"most_bytes": 5_000, "seconds": 20.0, "allowed": lambda address: address == HERE, **options})


def fetch(url: str, **options) -> bytes:
    return asyncio.run(fetcher(**options).fetch(url))


def ask(client, *urls: str) -> tuple[int, dict]:
    parts = [f'--x\r\nContent-Disposition: form-data; name="urls"\r\n\r\n{url}\r\n' for url in urls]
    status, text = client.ask("POST", "/predict?top=3", "".join([*parts, "--x--\r\n"]).encode(), **FORM)
    return status, json.loads(text)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("served"))


def test_what_stands_at_urls_is_predicted_and_what_cannot_be_had_is_said_beside_it(world, site):
    row, wanted = world.competition.test[0], expected(world)
    site.files["a.png"], site.redirects["moved"] = row.path.read_bytes(), "a.png"
    with served(world, fetcher=fetcher(most_bytes=20_000)) as client:
        status, answer = ask(client, site.url("a.png"), site.url("moved"), site.url("gone.png"))
        assert status == 200
        assert [one["file"] for one in answer["predictions"]] == [site.url(path) for path in ("a.png", "moved", "gone.png")]
        for one in answer["predictions"][:2]:
            assert abs(probabilities(one) - wanted[row.path.name]).max() < 1e-5
        assert answer["predictions"][2]["error"] == f"{site.url('gone.png')}: answered with 404."
        assert ask(client, site.url("gone.png"))[0] == 422
        assert ask(client, *[site.url("a.png")] * (Limits().urls + 1))[0] == 413
        assert ask(client)[0] == 422


def test_urls_are_refused_unless_they_are_switched_on(world, site):
    with served(world) as client:
        status, answer = ask(client, site.url("a.png"))
    assert status == 403
    assert "--urls" in answer["detail"]
    assert site.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("127.0.0.1", False), ("10.1.2.3", False), ("192.168.0.1", False), ("172.16.0.1", False), ("0.0.0.0", False)),
        *(("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("::ffff:127.0.0.1", False)),
        *(
            ("::1", False),
            ("::", False),
            ("fe80::1", False),
            ("fd00::1", False),
            ("::ffff:127.0.0.1", False),
            ("ff02::1", False),
        ),
        *(("8.8.8.8", True), ("2606:4700:4700::1111", True)),
    ],
)
def test_public_addresses_are_those_of_the_internet(address, public):
    assert is_public(ip_address(address)) == public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"])
def test_this_machine_is_not_asked_whatever_it_is_called(site, host):
    with pytest.raises(ImageError, match="no public address"):
        fetch(site.url("a.png", host), allowed=is_public)
    assert site.asked == []


def test_a_redirect_to_this_machine_is_not_followed(site):
    site.redirects["away"] = site.url("secret", "127.0.0.2")
    with pytest.raises(ImageError, match="no public address"):
        fetch(site.url("away"))
    assert site.asked == ["away"]


def test_the_connection_goes_to_the_address_that_was_checked(site, monkeypatch):
    site.files["a.png"] = b"data"
    asked = []

    async def once(self, host, port, **_):
        asked.append(host)
        addresses = ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]  # what a server of names could do
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", once)
    assert fetch(site.url("a.png", "pictures.example")) == b"data"
    assert asked == ["pictures.example"]
    assert site.hosts == [f"pictures.example:{site.port}"]


def test_a_name_with_one_address_that_is_not_public_is_refused(site, monkeypatch):
    async def two(self, host, port, **_):
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.1", "10.0.0.1")]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", two)
    with pytest.raises(ImageError, match="no public address"):
        fetch(site.url("a.png", "pictures.example"))
    assert site.asked == []


def test_a_proxy_of_the_surroundings_is_not_used(site, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    site.files["a.png"] = b"data"
    assert fetch(site.url("a.png")) == b"data"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a.example/b.png", "a.png", "", "http://", "http://[::1", "https:///a"]
)
def test_other_kinds_of_urls_are_refused(url):
    with pytest.raises(ImageError):
        fetch(url)


def test_too_much_too_slow_and_too_far_are_bounded(site):
    with pytest.raises(ImageError, match="more than 5,000 bytes"):
        fetch(site.url("endless"))
    with pytest.raises(ImageError, match=r"no answer within 0\.3 s"):
        fetch(site.url("silent"), seconds=0.3)
    site.redirects |= {f"{step}": f"{step + 1}" for step in range(9)}
    with pytest.raises(ImageError, match=f"more than {fetching.REDIRECTS} redirects"):
        fetch(site.url("0"))
    assert site.asked[2:] == ["0", "1", "2", "3"]


def test_of_https_the_certificate_of_the_name_is_wanted(site, tmp_path, monkeypatch):
    """The connection goes to an address, yet it is the name that the certificate must be of."""
    certificate = self_signed(tmp_path, "pictures.example")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"data")

        def log_message(self, *_: object) -> None:
            pass

    async def here(self, host, port, **_):
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", here)
    trusted = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **_: trusted)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        port = server.server_address[1]
        assert fetch(f"https://pictures.example:{port}/a.png") == b"data"
        with pytest.raises(ImageError, match=r"(?i)certificate"):
            fetch(f"https://other.example:{port}/a.png")
        server.shutdown()
        thread.join(10)


def self_signed(folder, name):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "certificate.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, *private))
    return path
