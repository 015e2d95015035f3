"""Which addresses a fetch may connect to: checked after DNS, at every connection, so at redirects too."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import httpcore

LOOPBACK = "127.0.0.1"
Routes = Mapping[str, Sequence[int]]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedAddressError(Exception):
    """A host whose address is loopback, private, link-local or otherwise not of the public internet."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also where IPv6 wraps an IPv4 address."""
    ip: IpAddress = ipaddress.ip_address(address.partition("%")[0])
    for inner in _wrapped(ip):
        if not inner.is_global or inner.is_multicast or inner.is_reserved or inner.is_unspecified:
            return False
    return True


def _wrapped(ip: IpAddress) -> Iterable[IpAddress]:
    if isinstance(ip, ipaddress.IPv4Address):
        return (ip,)
    if ip.ipv4_mapped:
        return (ip.ipv4_mapped,)
    if ip in _NAT64:
        return (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF),)
    if ip.sixtofour:
        return (ip, ip.sixtofour)
    return (ip,)


async def resolve(host: str, port: int, allow_hosts: Iterable[str]) -> list[str]:
    """The addresses of a host to connect to; no name is looked up twice, so none can change in between.

    Raises RefusedAddressError, with the mend, where any address of a host not in ``allow_hosts`` is not
    public, and OSError where the name does not resolve.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if host.lower() not in {name.lower() for name in allow_hosts}:
        private = [address for address in addresses if not is_public(address)]
        if private:
            raise RefusedAddressError(
                f"{host} is at {private[0]}, which is not a public address; "
                f"to fetch from it all the same, add {host!r} to allow_hosts"
            )
    return addresses


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's network, which connects only to addresses that :func:`resolve` lets through."""

    def __init__(self, allow_hosts: Iterable[str], routes: Routes | None = None) -> None:
        self._allow_hosts = tuple(allow_hosts)
        self._routes = {host: cycle(ports) for host, ports in (routes or {}).items()}
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, connect to the first address that answers.

        A host in ``routes`` is a server of our own at those ports of loopback, taken in turn: its pages keep
        the same addresses whatever ports it got.
        """
        if host in self._routes:
            port = next(self._routes[host])
            return await self._inner.connect_tcp(LOOPBACK, port, timeout, local_address, socket_options)
        try:
            async with asyncio.timeout(timeout):
                addresses = await resolve(host, port, self._allow_hosts)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            raise httpcore.ConnectError(f"{host}: {error}") from error
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """As asyncio's."""
        await self._inner.sleep(seconds)
