"""What kind of socket a descriptor is: asked of the kernel, so that nothing of it changes."""

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
    """What the kernel tells of a socket.

    Attributes:
        family, kind: such as AF_INET and SOCK_STREAM.
        listens: it waits for connections.
        name, peer: addresses, for a person: of this end, of the other; "" if there is none.
        has_peer: there is another end, if only one without an address.
        made_here: both ends were made by this process, as a pair.
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
        """Ask. Raises OSError if the descriptor is no socket."""
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
    """The first number of an option: of SO_PEERCRED, the pid."""
    value, length = ctypes.create_string_buffer(16), ctypes.c_uint(16)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(fd, socket.SOL_SOCKET, option, value, ctypes.byref(length)) != 0:
        raise OSError(ctypes.get_errno(), "getsockopt")
    return int.from_bytes(value.raw[:4], sys.byteorder)


def _address(fd: int, which: str) -> str | None:
    """What getsockname or getpeername says; None if there is no such end."""
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
