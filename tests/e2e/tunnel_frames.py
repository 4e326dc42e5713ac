#!/usr/bin/python3
"""The frames that tests pass through a tunnel, and the two hands that pass them: tunnel_frames.py send|receive
INTERFACE COUNT MTU, on the interface of a kernel that does the tunnelling. Both sides of a test make the same frames, so
each can judge alone what it received; it is also run in guests, beside capture_file.py. There a NIC with several queues
changes the order of frames, none of which is like another."""

import pathlib
import random
import select
import socket
import struct
import sys
import threading
import time

ETH_P_ALL = 0x0003
ETHERTYPE = 0x88B5  # IEEE 802: for local experiments
TO_GUEST = bytes.fromhex("025646000001")  # the VF's: without outer headers its filter looks at it
TO_KERNEL = bytes.fromhex("02aa00000002")
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
SIZES = (60, 61, 64, 128, 255, 256, 257, 600, 1000, 1400)
PATIENCE_SECONDS = 60


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frames(count: int, mtu: int, to: bytes) -> list[bytes]:
    """Half of an experimental type, half UDP of many flows; the longest that the MTU allows among them."""
    source = TO_KERNEL if to == TO_GUEST else TO_GUEST
    noise = random.Random(count * 31 + mtu + to[-1])
    made = []
    for number in range(count):
        size = (*SIZES, mtu + 14)[number % (len(SIZES) + 1)]
        if number % 2:
            body = struct.pack(">I", number) + noise.randbytes(size - 18)
            made.append(to + source + struct.pack(">H", ETHERTYPE) + body)
            continue
        payload = struct.pack(">I", number) + noise.randbytes(size - 46)
        udp = struct.pack(">HHHH", 20000 + number % 64, 9, 8 + len(payload), 0) + payload
        header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number & 0xFFFF, 0, 64, 17, 0,
                             b"\x0a\x01\x00\x01", b"\x0a\x01\x00\x02")
        header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
        made.append(to + source + b"\x08\x00" + header + udp)
    return made


def is_ours(frame: bytes) -> bool:
    """What a kernel says on its own is none of the test's."""
    return frame[:6] in (TO_GUEST, TO_KERNEL) and frame[6:12] in (TO_GUEST, TO_KERNEL)


def first_difference(found: list[bytes], expected: list[bytes]) -> str:
    """Empty if there is none."""
    for number, (one, other) in enumerate(zip(found, expected)):
        if one != other:
            return f"frame {number}: {one[:80].hex()} ({len(one)} bytes), expected {other[:80].hex()} ({len(other)})"
    return "" if len(found) == len(expected) else f"{len(found)} frames, expected {len(expected)}"


def open_interface(name: str) -> socket.socket:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)  # beyond what the system allows everybody
    port.bind((name, ETH_P_ALL))
    return port


def send(interface: str, made: list[bytes], after_each_burst=None, burst: int = 50) -> None:
    with open_interface(interface) as port:
        for number, frame in enumerate(made, 1):
            port.send(frame)
            if number % burst == 0:
                after_each_burst(number) if after_each_burst else time.sleep(0.02)


class Receiver(threading.Thread):
    """Listens from its making on, in a thread: a socket holds only so much."""

    def __init__(self, interface: str, count: int):
        super().__init__(daemon=True)
        self.port = open_interface(interface)
        self.count = count
        self.found: list[bytes] = []
        self.start()

    def run(self) -> None:
        while len(self.found) < self.count and select.select([self.port], [], [], PATIENCE_SECONDS)[0]:
            frame, sender = self.port.recvfrom(65536)
            if sender[2] != PACKET_OUTGOING and is_ours(frame):
                self.found.append(frame)

    def take(self) -> list[bytes]:
        """All of them, or fewer when none came for a while."""
        self.join()
        return self.found


def main() -> int:
    verb, interface, count, mtu = sys.argv[1:]
    if verb == "send":
        send(interface, frames(int(count), int(mtu), TO_GUEST))
        return 0
    if verb == "write":  # what a guest is to send
        import capture_file

        capture_file.write(pathlib.Path(interface), frames(int(count), int(mtu), TO_KERNEL))
        return 0
    if verb == "compare":  # what a guest received
        import capture_file

        found = [frame for frame in capture_file.read(pathlib.Path(interface)) if is_ours(frame)]
        difference = first_difference(sorted(found), sorted(frames(int(count), int(mtu), TO_GUEST)))
    else:
        receiver = Receiver(interface, int(count))
        print("READY", flush=True)
        found = receiver.take()
        difference = first_difference(sorted(found), sorted(frames(int(count), int(mtu), TO_KERNEL)))
    print(difference or "EQUAL", flush=True)
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
