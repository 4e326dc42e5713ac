#!/usr/bin/python3
"""Asks a control socket one thing: ask.py SOCKET METHOD. JSON-RPC, one request and one answer a line."""

import json
import socket
import sys


def main() -> int:
    path, method = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(10)
        control.connect(path)
        control.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode() + b"\n")
        answer = json.loads(control.makefile().readline())
    if "error" in answer:
        print(f"{path}: {answer['error']['message']}", file=sys.stderr)
        return 1
    print(json.dumps(answer["result"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
