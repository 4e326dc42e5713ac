#!/usr/bin/python3
"""Gives a control socket of vf_sim one command and prints the answer: ask.py SOCKET COMMAND."""

import socket
import sys


def main() -> None:
    path, command = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(10)
        control.connect(path)
        control.sendall(command.encode() + b"\n")
        print(control.makefile().readline().rstrip())


if __name__ == "__main__":
    main()
