"""Where the requests of tools may go: by names, and by the addresses that the names turn out to have."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

MAX_URL_CHARACTERS = 4000
PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# All of IPv6 that is handed out to the public is in here: https://www.iana.org/assignments/ipv6-address-space.
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Anycast of relays into IPv6, withdrawn by RFC 7526.
RELAYS = ipaddress.ip_network("192.88.99.0/24")

_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.IGNORECASE)
# How often a path may be escaped on top of itself before servers stop taking the escapes away.
_UNESCAPES = 3

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class WebRefused(Exception):
    """A request that is not made, or an answer that is not taken, and why: for a model and its owner."""


@dataclass(frozen=True, kw_only=True)
class WebRules:
    """Where requests may go.

    `allow` has hosts ("api.example.com"), hosts below one ("*.example.com"), URL prefixes ("https://example.com/v1/")
    and "*" for any public host. `private` has hosts and networks ("10.0.0.0/8") whose addresses need not be public.
    """

    allow: tuple[str, ...]
    private: tuple[str, ...] = ()

    def problem(self) -> str | None:
        """What is wrong with an entry that could never cover anything; None where none is."""
        for entry in self.allow:
            if "://" in entry:
                try:
                    parts = split_url(entry)
                except WebRefused as error:
                    return f"`allow`: {error}"
                if parts.query or parts.fragment:
                    return f"`allow`: {entry!r} must end with its path: what stands after `?` is not looked at."
            elif entry != "*" and not _is_host(entry):
                return f"`allow`: {entry!r} is no host, *.host or URL. For a port or a path write the whole URL."
        for entry in self.private:
            if not _is_host(entry) and _network(entry) is None:
                return f"`private`: {entry!r} is no host and no network such as 10.0.0.0/8."
        return None

    def check_url(self, url: str) -> None:
        """Raises WebRefused where no entry of `allow` covers the URL."""
        parts = split_url(url)
        host = parts.hostname or ""
        for entry in self.allow:
            if "://" in entry:
                if _is_below(url, entry):
                    return
            elif entry == "*" or host == entry.lower() or (entry.startswith("*.") and host.endswith(entry[1:].lower())):
                return
        raise WebRefused(f"{host} is not allowed. Allowed: {', '.join(self.allow)}.")

    def check_secrets(self, url: str) -> None:
        """Raises WebRefused where secrets would go over the network for all to read, and nobody has said so."""
        parts = split_url(url)
        is_named = any(entry.lower().startswith("http://") and _is_below(url, entry) for entry in self.allow)
        if parts.scheme != "https" and not is_named and not self._names_host(parts.hostname or ""):
            raise WebRefused("This tool sends secret header fields, so the URL must begin with https://.")

    def check_address(self, host: str, address: str) -> None:
        """Raises WebRefused where the address that `host` has is not public and nobody named it."""
        found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        if _is_public(found) or self._names_host(host):
            return
        if any(network is not None and found in network for network in map(_network, self.private)):
            return
        raise WebRefused(f"{host} is at {address}, which is no public address and is not named in `private`.")

    def _names_host(self, host: str) -> bool:
        return any(host == entry.lower() for entry in self.private)


def covers(entries: Iterable[str], private: str) -> bool:
    """Whether an entry of `private` is within others of its kind: the same host, or an address or network in a network
    that is among them."""
    network = _network(private)
    for entry in entries:
        if entry.lower() == private.lower():
            return True
        wider = _network(entry)
        if network is None or wider is None or network.version != wider.version:
            continue
        first, last = int(network.network_address), int(network.broadcast_address)
        if int(wider.network_address) <= first and last <= int(wider.broadcast_address):
            return True
    return False


def split_url(url: str) -> SplitResult:
    """The parts of an http or https URL. Raises WebRefused."""
    if len(url) > MAX_URL_CHARACTERS:
        raise WebRefused(f"The URL is longer than {MAX_URL_CHARACTERS} characters.")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise WebRefused(f"{url!r} is no URL: escape what is not ASCII, and spaces.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebRefused(f"{url!r} is no URL: {error}.") from error
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise WebRefused(f"{url!r} is no http or https URL with a host.")
    if "@" in parts.netloc:
        raise WebRefused("A URL must have no user name or password in it.")
    return parts


def joined(url: str, location: str) -> str:
    """Where a redirect leads. Raises WebRefused where it leads nowhere."""
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise WebRefused(f"{url} redirects to {location[:200]!r}, which is no URL.") from error


def origin(url: str) -> tuple[str, str | None, int]:
    """The scheme, host and port. Raises WebRefused."""
    parts = split_url(url)
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]


def _is_host(entry: str) -> bool:
    try:
        ipaddress.ip_address(entry)
    except ValueError:
        return bool(_NAME.fullmatch(entry))
    return True


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        return None


def _is_below(url: str, prefix: str) -> bool:
    """Whether the URL has the prefix's origin and a path below its path; a path with dots goes nowhere."""
    path, wanted = split_url(url).path or "/", split_url(prefix).path or "/"
    if origin(url) != origin(prefix) or _has_dots(path):
        return False
    return path == wanted or path.startswith(wanted if wanted.endswith("/") else f"{wanted}/")


def _has_dots(path: str) -> bool:
    """Whether some server may read `..` in the path: escaped, escaped again, before `;`, or after a backslash."""
    for _ in range(_UNESCAPES):
        if any(part.partition(";")[0] in (".", "..") for part in re.split(r"[/\\]", path)):
            return True
        path = unquote(path)
    return False


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and address not in RELAYS
    # IPv4 addresses in the clothes of IPv6: the connection may end at those.
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and address in NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return _is_public(inner)
    return address in GLOBAL_UNICAST and address.is_global
