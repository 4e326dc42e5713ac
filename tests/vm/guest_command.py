#!/usr/bin/python3
"""Runs one shell command in the test guest: guest_command.py SOCKET SECONDS COMMAND.

SOCKET is the host end of the guest's second serial port (see guest_serve.sh). Prints the command's output and exits
with its status; 124 if there was no answer in time.
"""

import re
import socket
import sys


def main() -> int:
    path, seconds, command = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as port:
        port.settimeout(float(seconds))
        port.connect(path)
        port.sendall(command.encode() + b"\n")
        answer = b""
        while not (end := re.search(rb"^=status (\d+)\r?\n", answer, re.MULTILINE)):
            try:
                piece = port.recv(65536)
            except TimeoutError:
                print(f"no answer from the guest to: {command}", file=sys.stderr)
                return 124
            if not piece:
                print(f"the guest went away during: {command}", file=sys.stderr)
                return 125
            answer += piece
    sys.stdout.buffer.write(answer[: end.start()])
    return int(end.group(1))


if __name__ == "__main__":
    sys.exit(main())
