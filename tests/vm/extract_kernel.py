#!/usr/bin/python3
"""Unpacks the ELF kernel out of a bzImage: extract_kernel.py VMLINUZ VMLINUX.

QEMU boots an ELF with a PVH note directly, which saves the guest the decompression (over a second under
software emulation). The boot protocol (Documentation/arch/x86/boot.rst) says where the payload lies.
"""

import lzma
import struct
import subprocess
import sys
import zlib

HEADER_MAGIC = 0x202


def filter_through(command: list[str], payload: bytes) -> bytes:
    # The last word is the unpacked size, which these two programs would take for a broken frame.
    return subprocess.run(command, input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout


def decompress(payload: bytes) -> bytes:
    if payload.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(payload)
    if payload.startswith(b"\x02\x21\x4c\x18"):
        return filter_through(["lz4", "-dcq"], payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return filter_through(["zstd", "-dcq"], payload)
    raise ValueError(f"unknown compression, first bytes {payload[:4].hex()}")


def main() -> None:
    source, target = sys.argv[1:]
    with open(source, "rb") as file:
        image = file.read()
    if image[HEADER_MAGIC : HEADER_MAGIC + 4] != b"HdrS":
        raise ValueError(f"{source}: not a bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    kernel = decompress(image[start : start + length])
    if not kernel.startswith(b"\x7fELF"):
        raise ValueError(f"{source}: the payload is not an ELF file")
    with open(target, "wb") as file:
        file.write(kernel)


if __name__ == "__main__":
    main()
