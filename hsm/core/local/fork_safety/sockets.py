"""Facts about a socket from its descriptor, asked of the kernel without changing the socket."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import sys
from dataclasses import dataclass

_NAME_SIZE = 128  # sockaddr_storage


@dataclass(frozen=True)
class SocketFacts:
    """What the kernel reports about a socket.

    Attributes:
        family: such as AF_INET.
        kind: such as SOCK_STREAM.
        listens: whether it listens for connections.
        name: this end's address, for messages; "" if it has none.
        peer: the other end's address, for messages; "" if it has none.
        has_peer: whether there is another end, with or without an address.
        made_here: whether this process made both ends, as a pair.
    """

    family: int
    kind: int
    listens: bool
    name: str
    peer: str
    has_peer: bool
    made_here: bool

    @classmethod
    def of(cls, fd: int) -> SocketFacts:
        """Ask the kernel about `fd`. Raises OSError if it is not a socket."""
        family = _int_option(fd, socket.SO_DOMAIN)
        peer = _address(fd, "getpeername")
        return cls(
            family,
            _int_option(fd, socket.SO_TYPE),
            bool(_int_option(fd, socket.SO_ACCEPTCONN)),
            _address(fd, "getsockname") or "",
            peer or "",
            peer is not None,
            family == socket.AF_UNIX and _int_option(fd, socket.SO_PEERCRED) == os.getpid(),
        )


def _int_option(fd: int, option: int) -> int:
    """Return the first int of a socket option; for SO_PEERCRED that is the pid."""
    value, length = ctypes.create_string_buffer(16), ctypes.c_uint(16)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(fd, socket.SOL_SOCKET, option, value, ctypes.byref(length)) != 0:
        raise OSError(ctypes.get_errno(), "getsockopt")
    return int.from_bytes(value.raw[:4], sys.byteorder)


def _address(fd: int, which: str) -> str | None:
    """Format the address that getsockname or getpeername returns; None if there is no such end."""
    data, length = ctypes.create_string_buffer(_NAME_SIZE), ctypes.c_uint(_NAME_SIZE)
    if getattr(ctypes.CDLL(None), which)(fd, data, ctypes.byref(length)) != 0:
        return None
    raw = data.raw[: length.value]
    if len(raw) < 2:
        return ""
    (family,) = struct.unpack_from("H", raw)
    if family == socket.AF_UNIX:
        return os.fsdecode(raw[2:].lstrip(b"\0").split(b"\0")[0])
    if family == socket.AF_INET:
        return f"{ipaddress.ip_address(raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
    if family == socket.AF_INET6:
        return f"[{ipaddress.ip_address(raw[8:24])}]:{int.from_bytes(raw[2:4], 'big')}"
    return ""
