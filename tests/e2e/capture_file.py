"""Reads and writes capture files (libpcap's classic format, Ethernet)."""

import pathlib
import struct

ETHERNET = 1
LEAST_FRAME_BYTES = 60  # what a sender's NIC pads to; the CRC is not in a capture


def read(path: pathlib.Path) -> list[bytes]:
    data = path.read_bytes()
    magic = data[:4]
    orders = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\x3c\x4d": ">"}
    if magic not in orders:
        raise ValueError(f"{path} is not a capture file")
    order = orders[magic]
    (link_type,) = struct.unpack_from(order + "I", data, 20)
    if link_type & 0xFFFF != ETHERNET:
        raise ValueError(f"{path} does not hold Ethernet frames")
    frames = []
    offset = 24
    while offset + 16 <= len(data):
        captured, original = struct.unpack_from(order + "II", data, offset + 8)
        offset += 16
        if captured != original or offset + captured > len(data):
            raise ValueError(f"{path}: frame {len(frames)} is cut off")
        frames.append(data[offset : offset + captured])
        offset += captured
    return frames


def write(path: pathlib.Path, frames: list[bytes]) -> None:
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, ETHERNET))
        for number, frame in enumerate(frames):
            file.write(struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame)


def padded(frame: bytes) -> bytes:
    return frame.ljust(LEAST_FRAME_BYTES, b"\0")
