"""Images by their URLs, from the internet only.

Whoever may name a URL could make the server ask for what only it can reach (server-side request forgery). So a name is resolved
once, all its addresses are checked, and the connection goes to a checked address; after a redirect it begins anew.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx

from kaggle_kit.errors import ImageError

Address = IPv4Address | IPv6Address
REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_AT_ONCE = 16


def is_public(address: Address) -> bool:
    """Return whether an address is of the internet: not of this machine, a private network, a link or a group."""
    return address.is_global and not address.is_multicast


class Fetcher:
    """Reads files from other servers.

    Args:
        most_bytes: of a file.
        seconds: until it is here, redirects and waiting for others included.
        allowed: says which addresses may be connected to.
    """

    def __init__(self, *, most_bytes: int, seconds: float, allowed: Callable[[Address], bool] = is_public) -> None:
        self._most_bytes, self._seconds, self._allowed = most_bytes, seconds, allowed
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, url: str) -> bytes:
        """Return the file at ``url``; raises ImageError that says why it cannot be had."""
        try:
            async with asyncio.timeout(self._seconds), self._turns:
                return await self._follow(httpx.URL(url))
        except TimeoutError:
            reason = f"no answer within {self._seconds:g} s"
        except ImageError as error:
            reason = str(error)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{url}: {reason}.")

    async def _follow(self, url: httpx.URL) -> bytes:
        for _ in range(1 + REDIRECTS):
            found = await self._get(url)
            if isinstance(found, bytes):
                return found
            url = url.join(found)
        raise ImageError(f"more than {REDIRECTS} redirects")

    async def _get(self, url: httpx.URL) -> bytes | str:
        """Return the file at ``url``, or where it is said to be instead."""
        address = await self._address(url)
        headers = {"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"}
        name = {"sni_hostname": url.raw_host.decode("ascii")}  # whose certificate is asked for
        # A client of its own: no cookies, proxies or connections of other names at the same address.
        client = httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=None)
        request = client.stream("GET", url.copy_with(host=str(address)), headers=headers, extensions=name)
        async with client, request as answer:
            if answer.has_redirect_location:
                return answer.headers["location"]
            if answer.status_code != httpx.codes.OK:
                raise ImageError(f"answered with {answer.status_code}")
            data = bytearray()
            async for piece in answer.aiter_raw():  # as it was sent: nothing is decompressed
                data += piece
                if len(data) > self._most_bytes:
                    raise ImageError(f"more than {self._most_bytes:,} bytes")
            return bytes(data)

    async def _address(self, url: httpx.URL) -> Address:
        """Return the address to connect to; raises ImageError unless all that the name has are allowed."""
        if url.scheme not in _PORTS or not url.host:
            raise ImageError("expected an address that begins with http:// or https://")
        port = url.port or _PORTS[url.scheme]
        found = await asyncio.get_running_loop().getaddrinfo(url.raw_host.decode("ascii"), port, type=socket.SOCK_STREAM)
        addresses = [ip_address(where[0]) for *_, where in found]
        if not all(self._allowed(address) for address in addresses):
            raise ImageError("this server fetches from the internet only, and that is no public address")
        return addresses[0]
