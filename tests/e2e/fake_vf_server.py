"""VF servers that misbehave, each on a thread: one that is mute, one that babbles, one whose PF is silent.

The last is just enough of a vfio-user server (QEMU docs/interop/vfio-user.rst) and of an 82599 VF to be taken for one:
registers are plain memory, and nobody ever answers in the mailbox.
"""

import pathlib
import random
import socket
import struct
import threading

HEADER = struct.Struct("<HHIII")  # id, command, size, flags, error
FLAG_REPLY = 1
FLAG_NO_REPLY = 1 << 4
CONFIG_REGION = 7
VFMAILBOX = 0x02FC
VFMAILBOX_VFU = 1 << 2


class FakeServer:
    """Serves one client at `path` until it is closed."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.settimeout(30)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thread.join(30)
        self.listener.close()
        self.path.unlink()

    def run(self) -> None:
        try:
            client, _ = self.listener.accept()
            client.settimeout(30)
            with client:
                self.serve(client)
        except OSError:
            pass  # nobody came, or the client has had enough

    def serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class MuteServer(FakeServer):
    def serve(self, client: socket.socket) -> None:
        while client.recv(4096):
            pass


class BabblingServer(FakeServer):
    def serve(self, client: socket.socket) -> None:
        noise = random.Random(1)
        while client.recv(4096):
            client.sendall(noise.randbytes(64))


class SilentPfServer(FakeServer):
    def serve(self, client: socket.socket) -> None:
        self.regions: dict[tuple[int, int], int] = {(CONFIG_REGION, 0): 0x10ED8086}
        while header := client.recv(HEADER.size, socket.MSG_WAITALL):
            number, command, size, flags, _ = HEADER.unpack(header)
            payload = client.recv(size - HEADER.size, socket.MSG_WAITALL) if size > HEADER.size else b""
            answer = self.answer(command, payload)
            if not flags & FLAG_NO_REPLY:
                client.sendall(HEADER.pack(number, command, HEADER.size + len(answer), FLAG_REPLY, 0) + answer)

    def answer(self, command: int, payload: bytes) -> bytes:
        match command:
            case 1:  # VERSION
                return struct.pack("<HH", 0, 0) + b'{"capabilities":{}}\0'
            case 4:  # DEVICE_GET_INFO: resettable PCI function, 9 regions, 5 kinds of interrupt
                return struct.pack("<IIII", 16, 3, 9, 5)
            case 5:  # DEVICE_GET_REGION_INFO: readable and writable, not mappable
                (index,) = struct.unpack_from("<I", payload, 8)
                return struct.pack("<IIIIQQ", 32, 3, index, 0, 0x4000, 0)
            case 9:  # REGION_READ
                offset, region, count = struct.unpack_from("<QII", payload)
                return payload[:16] + self.load(region, offset, count)
            case 10:  # REGION_WRITE
                offset, region, count = struct.unpack_from("<QII", payload)
                self.store(region, offset, payload[16 : 16 + count])
                return payload[:16]
            case 3:  # DMA_UNMAP
                return payload
            case _:
                return b""

    def load(self, region: int, offset: int, count: int) -> bytes:
        word = self.regions.get((region, offset & ~3), 0)
        return word.to_bytes(4, "little")[offset & 3 : (offset & 3) + count]

    def store(self, region: int, offset: int, data: bytes) -> None:
        value = int.from_bytes(data.ljust(4, b"\0"), "little")
        if region == 0 and offset == VFMAILBOX:
            value &= VFMAILBOX_VFU  # the VF gets the buffer; its request is forgotten
        if region == CONFIG_REGION:
            return
        self.regions[(region, offset & ~3)] = value
