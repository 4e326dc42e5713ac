#!/usr/bin/python3
"""Prints the demo's one table: demo_table.py DIRECTORY SIZE...

DIRECTORY holds, for each SIZE, what the guest, vitrine and the simulator counted. Exits with 1 if a frame was bad, or
if one is neither delivered nor in a drop counter.
"""

import json
import pathlib
import sys

import ledger

OVERHEAD_ON_WIRE = 20  # preamble and gap; sizes are with CRC


def load(file: pathlib.Path) -> dict:
    with open(file) as text:
        return json.load(text)


def row(size: int, books: ledger.Ledger, guest: dict, frames: int, size_bytes: int, bad: int) -> None:
    rate = guest["frames_per_second"]
    gigabits = rate * (size + OVERHEAD_ON_WIRE) * 8 / 1e9
    print(f"{size:6} {books.name:9}{books.offered:10}{frames:10}{size_bytes:14}{bad:5}{rate / 1e6:8.3f}{gigabits:8.2f}"
          f"  {books.reasons()}")


def main() -> int:
    directory, sizes = pathlib.Path(sys.argv[1]), [int(size) for size in sys.argv[2:]]
    faults: list[str] = []
    checked = 0
    print(f"\n{'size':>6} {'path':9}{'sent':>10}{'received':>10}{'bytes':>14}{'bad':>5}{'Mpps':>8}{'Gbit/s':>8}"
          "  lost, by reason")
    for size in sizes:
        check, tx, vitrine, sim = (load(directory / f"{size}.{part}.json")
                                   for part in ("check", "tx", "vitrine", "vf_sim"))
        inward, outward = ledger.to_guest(sim, vitrine), ledger.to_wire(sim, vitrine)
        received, wire = check["received"], sim["tx_checked"]
        inward.expect_equal("delivered = received by the guest", inward.delivered, received["frames"])
        outward.expect_equal("offered = sent by the guest", outward.offered, tx["sent"]["frames"])
        outward.expect_equal("delivered = checked at the wire", outward.delivered, wire["good"])
        bad = wire["bad"] + wire["not_stamped"] + wire["out_of_order"]
        row(size, inward, check, received["frames"], received["bytes"], check["bad"])
        row(size, outward, tx, wire["good"], sim["tx"]["bytes"], bad)
        checked += received["frames"] + wire["good"]
        for books in (inward, outward):
            faults += [f"{size} bytes {fault}" for fault in books.faults]
        if check["bad"] + bad:
            faults.append(f"{size} bytes: {check['bad']} bad frames at the guest, {bad} at the wire")
        faults += [f"{size} bytes: vitrine-guest {run['mode']}: a rule of the rings was broken, or the run did not end well"
                   for run in (check, tx) if not run["good"]]

    for fault in faults:
        print(f"WRONG: {fault}")
    print(f"\n{checked} frames checked by sequence and CRC, {'see WRONG above' if faults else '0 bad'}."
          "\nThese are figures of a simulator that shares the CPU with the guest, not of a network card.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
