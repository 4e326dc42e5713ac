#!/usr/bin/python3
"""Makes the kernel send mixed traffic: `traffic.py serve` answers at one end, `traffic.py talk` speaks at the other.

Only sockets are used here, so every frame is the kernel's own: its segments, fragments, acknowledgements, ARP and
neighbour discovery. Seeded, so that two runs send the same data.
"""

import random
import socket
import subprocess
import sys
import threading

TCP_PORT = 7000
UDP_PORT = 7001
SERVERS = ["10.77.0.2", "10.77.10.2", "10.77.20.2", "fd77::2", "fd77:10::2", "fd77:20::2"]
STRANGERS = ["10.77.0.3", "fd77::3"]
GROUPS = ["10.77.0.255", "239.1.2.3", "ff02::1%peer", "ff02::7777%peer"]


def echo_stream(stream: socket.socket) -> None:
    with stream:
        while data := stream.recv(65536):
            stream.sendall(data)


def echo_datagrams(port: socket.socket) -> None:
    while True:
        data, sender = port.recvfrom(65536)
        port.sendto(data, sender)


def serve() -> None:
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind(("::", UDP_PORT))
    threading.Thread(target=echo_datagrams, args=(datagrams,), daemon=True).start()
    listener = socket.create_server(("::", TCP_PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    print("READY", flush=True)
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=echo_stream, args=(stream,), daemon=True).start()


class Talker:
    def __init__(self) -> None:
        self.random = random.Random(1)
        self.streams = {address: self.connect(address) for address in SERVERS}
        self.ports = {family: self.datagram_port(family) for family in (socket.AF_INET, socket.AF_INET6)}

    def connect(self, address: str) -> socket.socket:
        stream = socket.create_connection((address, TCP_PORT), timeout=10)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def datagram_port(self, family: int) -> socket.socket:
        port = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET:
            port.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        port.settimeout(0.2)
        return port

    def stream_round(self, length: int) -> None:
        stream = self.streams[self.random.choice(SERVERS)]
        data = self.random.randbytes(length)
        stream.sendall(data)
        answer = b""
        while len(answer) < length:
            answer += stream.recv(65536)
        if answer != data:
            raise RuntimeError("the echo differs")

    def datagram(self, address: str, length: int, answered: bool) -> None:
        family, _, _, _, target = socket.getaddrinfo(address, UDP_PORT, type=socket.SOCK_DGRAM)[0]
        port = self.ports[family]
        port.sendto(self.random.randbytes(length), target)
        if answered:
            try:
                port.recv(65536)  # keeps the two ends in step, so that no queue overflows
            except TimeoutError:
                pass

    def new_connection(self) -> None:
        address = self.random.choice(SERVERS)
        self.streams[address].close()
        self.streams[address] = self.connect(address)

    def forget_neighbours(self) -> None:
        """The next packets need ARP and neighbour discovery again; the strangers' entries are permanent and stay."""
        for interface in ("peer", "vlan10", "vlan20"):
            subprocess.run(["ip", "neighbour", "flush", "dev", interface], check=True, stderr=subprocess.DEVNULL)

    def talk(self, rounds: int) -> None:
        actions = {
            lambda: self.stream_round(self.random.randrange(1, 200)): 30,
            lambda: self.stream_round(self.random.randrange(20000, 60000)): 12,
            lambda: self.datagram(self.random.choice(SERVERS), self.random.randrange(0, 1400), True): 30,
            lambda: self.datagram(self.random.choice(SERVERS), self.random.randrange(2000, 9000), True): 12,
            lambda: self.datagram(self.random.choice(STRANGERS), self.random.randrange(0, 1400), False): 6,
            lambda: self.datagram(self.random.choice(GROUPS), self.random.randrange(0, 1400), False): 6,
            self.new_connection: 2,
            self.forget_neighbours: 1,
        }
        for action in self.random.choices(list(actions), weights=list(actions.values()), k=rounds):
            action()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        Talker().talk(rounds=2000)
