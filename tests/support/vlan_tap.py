#!/usr/bin/python3
"""Puts VLANs on an interface: vlan_tap.py INTERFACE VID... makes a tap vlanVID for each and passes frames on, tagged.

What `ip link add type vlan` does, for kernels without 802.1Q: the kernel on the tap makes the frames, only the four
bytes of the tag are ours. Says READY when the taps exist.
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x0002 | 0x1000
SO_RCVBUFFORCE = 33
SOL_PACKET = 263
PACKET_AUXDATA = 8
ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
TAG_VALID = 1 << 4  # TP_STATUS_VLAN_VALID: the kernel has taken the tag out of the frame


def open_tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP_NO_PI))
    return tap


def open_interface(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    port.bind((name, ETH_P_ALL))
    return port


def from_interface(port: socket.socket, taps: dict[int, int]) -> None:
    frame, extra, _, sender = port.recvmsg(65536, 64)
    if sender[2] == PACKET_OUTGOING:
        return
    for _, _, data in extra:
        status, _, _, _, _, tag = struct.unpack_from("IIIHHH", data)
        if status & TAG_VALID and (tap := taps.get(tag & 0xFFF)):
            with contextlib.suppress(OSError):  # a tap that is down drops
                os.write(tap, frame)


def from_tap(tap: int, vid: int, port: socket.socket) -> None:
    frame = os.read(tap, 65536)
    port.send(frame[:12] + struct.pack(">HH", 0x8100, vid) + frame[12:])


def main() -> None:
    interface, *vids = sys.argv[1:]
    taps = {int(vid): open_tap(f"vlan{vid}") for vid in vids}
    port = open_interface(interface)
    print("READY", flush=True)
    while True:
        ready, _, _ = select.select([port, *taps.values()], [], [])
        if port in ready:
            from_interface(port, taps)
        for vid, tap in taps.items():
            if tap in ready:
                from_tap(tap, vid, port)


if __name__ == "__main__":
    main()
