"""vhost-user messages as bytes, for what a well-behaved front-end would not say."""

import array
import socket
import struct

NEED_REPLY = 1 << 3
VERSION = 1
GET_FEATURES = 1
SET_FEATURES = 2
SET_OWNER = 3
SET_MEM_TABLE = 5
SET_VRING_NUM = 8


def message(request: int, payload: bytes = b"", flags: int = VERSION, size: int | None = None) -> bytes:
    return struct.pack("<III", request, flags, len(payload) if size is None else size) + payload


def send_with_descriptors(connection: socket.socket, data: bytes, descriptors: list[int]) -> None:
    """As many as the kernel passes at once."""
    connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
