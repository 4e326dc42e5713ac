#!/usr/bin/python3
"""Prints how many frames of each kind are in pcap files: pcap_kinds.py FILE..."""

import collections
import struct
import sys

ETHER_TYPES = {0x0806: "ARP", 0x0800: "IPv4", 0x86DD: "IPv6"}
PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 44: "fragment", 58: "ICMPv6", 0: "hop-by-hop (MLD)", 2: "IGMP"}


def frames(path):
    with open(path, "rb") as file:
        magic, _, _, _, _, _, link_type = struct.unpack("<IHHiIII", file.read(24))
        if magic not in (0xA1B2C3D4, 0xA1B23C4D) or link_type != 1:
            raise ValueError(f"{path}: not a little-endian Ethernet pcap")
        while header := file.read(16):
            _, _, captured, original = struct.unpack("<IIII", header)
            if captured != original:
                raise ValueError(f"{path}: a frame is cut")
            yield file.read(captured)


def kind(frame):
    (ether_type,) = struct.unpack_from(">H", frame, 12)
    start, prefix = 14, ""
    if ether_type == 0x8100:
        tag, ether_type = struct.unpack_from(">HH", frame, 14)
        start, prefix = 18, f"VLAN {tag & 0xFFF} "
    name = ETHER_TYPES.get(ether_type, f"0x{ether_type:04x}")
    if name == "IPv4":
        (fragment,) = struct.unpack_from(">H", frame, start + 6)
        protocol = frame[start + 9]
        name += " fragment" if fragment & 0x3FFF else " " + PROTOCOLS.get(protocol, str(protocol))
    elif name == "IPv6":
        name += " " + PROTOCOLS.get(frame[start + 6], str(frame[start + 6]))
    return prefix + name


def address_class(frame):
    if frame[0:6] == b"\xff" * 6:
        return "to broadcast"
    return "to multicast" if frame[0] & 1 else "to unicast " + frame[0:6].hex(":")


def main():
    for path in sys.argv[1:]:
        kinds, classes, total, short, long = collections.Counter(), collections.Counter(), 0, 0, 0
        for frame in frames(path):
            kinds[kind(frame)] += 1
            classes[address_class(frame)] += 1
            total += 1
            short += len(frame) < 60
            long += len(frame) > 1518
        print(f"{path}: {total} frames, {short} under 60 bytes, {long} over 1518 bytes")
        for counter in (kinds, classes):
            for name, count in sorted(counter.items()):
                print(f"  {count:7} {name}")


if __name__ == "__main__":
    main()
