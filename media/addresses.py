"""Which URLs this service may be sent to by somebody else: the rules, without any I/O.

Whoever names a URL makes this machine knock at it, from inside its network. So an address is good only if it is global
unicast and nothing else; a name is good only if *every* address it has is. The list of registered special-purpose
blocks (RFC 6890 and the IANA registries) is written out below: `ipaddress.is_global` alone lets several through.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx
import msgspec

from callsheet.media.errors import MediaError

MAX_URL = 2048
MAX_HOST = 253
PORTS = {"http": 80, "https": 443}
# Below 1024 only the two of the web; above, not what speaks to whoever connects or believes what it is sent.
FORBIDDEN_PORTS = frozenset(
    {
        *(1433, 1521, 1723, 2049, 3128, 3306, 3389, 5060, 5061, 5432, 5671, 5672, 5900, 6000, 6665, 6666, 6667, 6668),
        *(6669, 6697, 9042, 9092, 9100, 11211, 27017, 27018, 61616),  # stores, brokers, screens, printers, chat
        *(6379, 6380, 16379, 26379),  # Redis
        *(2375, 2376, 2379, 2380, 5985, 5986, 6443, 8500, 9200, 9300, 10250, 10255),  # control planes, indexes
    }
)
# Names that mean this machine or this network (RFC 6761, 6762, 8375, 9476), without asking anybody.
INSIDE = frozenset({"localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "arpa", "test"})
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_BAD_4 = tuple(
    IPv4Network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # a public address, but the host agent of a large cloud to whoever runs there
    )
)
# Only 2000::/3 is global unicast (RFC 4291), and of it not: protocol assignments with Teredo, documentation, 6to4.
_GLOBAL_6 = IPv6Network("2000::/3")
_BAD_6 = tuple(IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: how a network without IPv4 reaches it


class ForbiddenUrlError(MediaError):
    """The URL, or an address behind it, is one that this service does not connect to."""

    def __init__(self, why: str) -> None:
        super().__init__("url_forbidden", f"The URL is not acceptable: {why}.")
        self.why = why


class CheckedUrl(msgspec.Struct, frozen=True):
    """A URL whose form is good. `allowed`: its host and port are on the allow list, wherever they lead."""

    url: str
    host: str
    port: int
    allowed: bool = False


def check_url(url: str, allowed: Collection[str] = ()) -> CheckedUrl:
    """The URL, normalised, if its form (and its address, where it is written in it) is good. Asks no name server.

    `allowed`: exact `host:port` that may lead anywhere (`127.0.0.1:9000`, `[::1]:9000`). Raises ForbiddenUrlError.
    """
    parsed = _parsed(url)
    host = _host(parsed)
    port = _port(parsed)
    bracketed = f"[{host}]" if ":" in host else host
    exempt = f"{bracketed}:{port}" in allowed
    if not exempt:
        _check_place(host, port)
    return CheckedUrl(str(parsed.copy_with(host=host)), host, port, exempt)


def check_addresses(checked: CheckedUrl, addresses: Collection[str]) -> tuple[str, ...]:
    """The addresses that a name server gave, if every one of them is good. Raises ForbiddenUrlError."""
    if not checked.allowed:
        for address in addresses:
            if (why := why_bad(address)) is not None:
                raise ForbiddenUrlError(f"its host is at {why}")
    return tuple(dict.fromkeys(addresses))


def why_bad(address: str) -> str | None:
    """What is wrong with an IP address as a destination; None for a good one."""
    try:
        ip = ip_address(address)
    except ValueError:
        return "an address that cannot be read"
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return "an address of one network link"
        inner = _embedded(ip)
        if inner is None:
            good = ip.is_global and ip in _GLOBAL_6 and not any(ip in block for block in _BAD_6)
            return None if good else "an address that is not public"
        ip = inner
    good = ip.is_global and not ip.is_multicast and not any(ip in block for block in _BAD_4)
    return None if good else "an address that is not public"


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to this one goes to. The deprecated ways to embed one (6to4, Teredo,
    IPv4-compatible) are no part of it: those addresses are refused whole."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None


def _parsed(url: str) -> httpx.URL:
    """The URL as the HTTP client will understand it: one parser for the check and for the request."""
    if len(url) > MAX_URL:
        raise ForbiddenUrlError(f"it is longer than {MAX_URL} characters")
    if any(c in ' \\"<>^`{|}' or unicodedata.category(c)[0] in "CZ" for c in url):
        raise ForbiddenUrlError("it holds a space, a control or another character that belongs into no URL")
    if not re.match(r"https?://[^/]", url, re.IGNORECASE):
        raise ForbiddenUrlError("it has to begin with http:// or https:// and a host")
    if "#" in url:
        raise ForbiddenUrlError("it has a fragment")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise ForbiddenUrlError("it cannot be read") from None
    if "@" in re.split(r"[/?]", url, maxsplit=3)[2] or parsed.userinfo:
        raise ForbiddenUrlError("it holds a user name or password")
    if not 0 < _port(parsed) < 65536:
        raise ForbiddenUrlError("there is no such port")
    return parsed


def _port(parsed: httpx.URL) -> int:
    return PORTS[parsed.scheme] if parsed.port is None else parsed.port


def _host(parsed: httpx.URL) -> str:
    """The host in ASCII, lower case, without the dot of the root; an IPv6 address without brackets."""
    host = parsed.raw_host.decode("ascii").lower()
    if ":" in host:
        try:
            return str(ip_address(host))
        except ValueError:
            raise ForbiddenUrlError("its IPv6 address cannot be read") from None
    host = host.removesuffix(".")
    labels = host.split(".")
    if len(host) > MAX_HOST or not all(_LABEL.match(label) for label in labels):
        raise ForbiddenUrlError("its host is not a name")
    if _NUMBER.match(labels[-1]):
        # A name server is never asked for such a host: the system takes it for IPv4, in decimal, octal, hex or short.
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise ForbiddenUrlError("its IPv4 address is not written as four decimal numbers") from None
    return host


def _check_place(host: str, port: int) -> None:
    if port in FORBIDDEN_PORTS or (port < 1024 and port not in PORTS.values()):
        raise ForbiddenUrlError(f"port {port} is not one for the web")
    if ":" in host or _NUMBER.match(host.rpartition(".")[2]):
        if (why := why_bad(host)) is not None:
            raise ForbiddenUrlError(f"it names {why}")
    elif "." not in host or host.rpartition(".")[2] in INSIDE:
        raise ForbiddenUrlError("its host is a name of a machine or network, not of the internet")
