"""Which URLs of others this service connects to, and that it connects to what was checked."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from callsheet.media.addresses import (
    CheckedUrl,
    ForbiddenUrlError,
    check_addresses,
    check_url,
    why_bad,
)
from callsheet.media.pinned import UnknownHostError, async_client, async_resolve, client, resolve
from tests.media.bad_urls import BAD_URLS

BAD_ADDRESSES = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1"),
    *("192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    *("255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::1", "2001::1"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1"),
    *("fe80::1%1", "fec0::1", "feff::1", "ff02::1", "ff0e::1", "100::1", "5f00::1", "::ffff:0:127.0.0.1", "none"),
]
GOOD_ADDRESSES = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_an_address_that_is_not_public_is_bad(address: str) -> None:
    assert why_bad(address) is not None


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_a_public_address_is_good(address: str) -> None:
    assert why_bad(address) is None


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_is_refused_before_anybody_is_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a name server was asked"))
    with pytest.raises(ForbiddenUrlError) as caught:
        check_url(url)
    assert caught.value.code == "url_forbidden"


@pytest.mark.parametrize(
    ("url", "normal", "host", "port"),
    [
        ("http://example.com/a.mp4?x=1&y=%20", "http://example.com/a.mp4?x=1&y=%20", "example.com", 80),
        ("HTTPS://EXAMPLE.com.:443/", "https://example.com/", "example.com", 443),
        ("https://example.com:8443/a", "https://example.com:8443/a", "example.com", 8443),
        ("https://b\u00fccher.example/\u00fc", "https://xn--bcher-kva.example/%C3%BC", "xn--bcher-kva.example", 443),
        ("http://8.8.8.8/a", "http://8.8.8.8/a", "8.8.8.8", 80),
        ("http://[2606:4700:0::1111]:8080/", "http://[2606:4700::1111]:8080/", "2606:4700::1111", 8080),
        ("http://a.example/b@c:d", "http://a.example/b@c:d", "a.example", 80),
    ],
)
def test_a_good_url_is_normalised(url: str, normal: str, host: str, port: int) -> None:
    assert check_url(url) == CheckedUrl(normal, host, port)


def test_the_allow_list_opens_one_port_of_one_host_and_nothing_else() -> None:
    allowed = ["127.0.0.1:9000", "[::1]:9000", "media:6379"]
    assert check_url("http://127.0.0.1:9000/a", allowed).allowed
    assert check_url("http://[::1]:9000/a", allowed).allowed
    assert check_url("http://media:6379/a", allowed).allowed
    for url in ("http://127.0.0.1:9001/a", "http://127.0.0.2:9000/a", "http://127.1:9000/a", "http://media/a"):
        with pytest.raises(ForbiddenUrlError):
            check_url(url, allowed)
    with pytest.raises(ForbiddenUrlError):
        check_url("http://user@127.0.0.1:9000/a", allowed)


def test_one_bad_address_among_good_ones_spoils_the_name() -> None:
    checked = check_url("http://example.com/")
    assert check_addresses(checked, ["8.8.8.8", "8.8.8.8", "1.1.1.1"]) == ("8.8.8.8", "1.1.1.1")
    with pytest.raises(ForbiddenUrlError):
        check_addresses(checked, ["8.8.8.8", "127.0.0.1"])


def test_the_text_of_a_refusal_names_no_address() -> None:
    with pytest.raises(ForbiddenUrlError) as caught:
        check_addresses(check_url("http://example.com/"), ["10.11.12.13"])
    assert "10.11.12.13" not in caught.value.message


class Peer(BaseHTTPRequestHandler):
    """Says which host it was asked for."""

    def do_GET(self) -> None:
        body = (self.headers["Host"] or "").encode()
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Peer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_request_goes_to_the_checked_address_under_the_urls_name(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    checked = check_url(f"http://video.example:{port}/a")
    with client(checked, ["127.0.0.1"]) as http:
        assert http.get(checked.url).text == f"video.example:{port}"


def test_an_asynchronous_request_does_the_same(port: int) -> None:
    async def ask() -> str:
        checked = check_url(f"http://localhost:{port}/a", [f"localhost:{port}"])
        async with async_client(checked, await async_resolve(checked)) as http:
            return (await http.get(checked.url)).text

    assert asyncio.run(ask()) == f"localhost:{port}"


def test_the_next_address_is_tried_when_one_refuses(port: int) -> None:
    checked = check_url(f"http://video.example:{port}/a")
    with client(checked, ["127.0.0.2", "127.0.0.1"]) as http:  # nobody listens at the first
        assert http.get(checked.url).status_code == 200
    with client(checked, ["127.0.0.2", "127.0.0.3"]) as http, pytest.raises(httpx.ConnectError):
        http.get(checked.url)


def test_tls_is_verified_against_the_name_in_the_url(tmp_path: Path) -> None:
    certificate = self_signed("video.example", tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Peer) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        trusting = ssl.create_default_context(cafile=str(certificate))
        good = check_url(f"https://video.example:{server.server_port}/")
        with client(good, ["127.0.0.1"], verify=trusting) as http:
            assert http.get(good.url).status_code == 200
        bad = check_url(f"https://other.example:{server.server_port}/")
        with client(bad, ["127.0.0.1"], verify=trusting) as http, pytest.raises(httpx.ConnectError, match="mismatch"):
            http.get(bad.url)
        server.shutdown()


def self_signed(name: str, folder: Path) -> Path:
    """A certificate for a name, and its key, in one file."""
    file = folder / "certificate.pem"
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(secret.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    signed = builder.sign(secret, hashes.SHA256()).public_bytes(Encoding.PEM)
    file.write_bytes(signed + secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def test_no_redirect_is_followed_and_no_other_host_is_reached(port: int) -> None:
    checked = check_url(f"http://video.example:{port}/away")
    with client(checked, ["127.0.0.1"]) as http:
        assert http.get(checked.url).status_code == 302
        for other in (f"http://127.0.0.1:{port}/", "http://video.example/", f"http://other.example:{port}/"):
            with pytest.raises(ForbiddenUrlError):
                http.get(other)


def test_a_name_with_a_bad_address_is_refused_and_one_without_any_is_tried_again_later() -> None:
    def answers(*addresses: str) -> None:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (a, 80)) for a in addresses])

    checked = check_url("http://example.com/")
    with pytest.MonkeyPatch.context() as patch:
        answers("8.8.8.8", "127.0.0.1")
        with pytest.raises(ForbiddenUrlError):
            resolve(checked)
        answers("8.8.8.8", "2606:4700::1111")
        assert resolve(checked) == ("8.8.8.8", "2606:4700::1111")
        answers()
        with pytest.raises(UnknownHostError) as caught:
            resolve(checked)
    assert caught.value.retryable


def test_a_resolver_that_does_not_answer_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60) and [])
    with pytest.raises(UnknownHostError):
        resolve(check_url("http://example.com/"), 0.01)
    answered.set()
