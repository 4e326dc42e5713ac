#!/usr/bin/python3
"""The books of one run, at both ends: ledger.py VF_SIM.json VITRINE.json [RECEIVED SENT]

VF_SIM is the simulator's status, VITRINE that of `vitrinectl status --json`, RECEIVED and SENT what the guest says that
it received and sent, where it can count. Every frame that one end offered must have been delivered or be in exactly
one drop counter. Prints both directions; exits with 1 if a frame is missing or counted twice. Read it when nothing
moves.
"""

import json
import sys
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """One direction. A drop's name says who dropped it."""

    name: str
    offered: int
    delivered: int
    drops: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def expect_equal(self, what: str, left: int, right: int) -> None:
        if left != right:
            self.faults.append(f"{self.name}: {what}: {left} is not {right}")

    def close(self) -> "Ledger":
        self.drops = {name: count for name, count in self.drops.items() if count}
        accounted = self.delivered + sum(self.drops.values())
        self.expect_equal("offered = delivered + drops", self.offered, accounted)
        return self

    def reasons(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(self.drops.items())) or "-"


def total(vitrine: dict, part: str, counter: str) -> int:
    return sum(pair[part].get(counter, 0) for pair in vitrine["pairs"])


def total_drops(vitrine: dict, part: str, prefix: str) -> dict[str, int]:
    names = {name for pair in vitrine["pairs"] for name in pair[part] if name.startswith(prefix)}
    return {f"vitrine.{name}": total(vitrine, part, name) for name in names}


def to_guest(sim: dict, vitrine: dict) -> Ledger:
    drops = {f"vf_sim.{reason}": count for reason, count in sim["drops"].items()}
    drops |= total_drops(vitrine, "receive", "drop_")
    ledger = Ledger("to guest", sim["wire"]["offered"], total(vitrine, "receive_ring", "frames"), drops)
    ledger.expect_equal("vf_sim delivered = vitrine received", sim["wire"]["rx_delivered"],
                        total(vitrine, "receive", "frames_from_nic"))
    return ledger.close()


def to_wire(sim: dict, vitrine: dict) -> Ledger:
    ring_drops = total_drops(vitrine, "transmit_ring", "tx_")
    drops = ring_drops | total_drops(vitrine, "transmit", "drop_")
    drops["vitrine.lost_in_nic"] = total(vitrine, "transmit", "lost_in_nic")
    drops |= {f"vf_sim.{reason}": count for reason, count in sim["tx"]["dropped"].items()}
    offered = total(vitrine, "transmit_ring", "frames") + sum(ring_drops.values())
    return Ledger("to wire", offered, sim["tx"]["frames"], drops).close()


def main() -> int:
    with open(sys.argv[1]) as sim_file, open(sys.argv[2]) as vitrine_file:
        sim, vitrine = json.load(sim_file), json.load(vitrine_file)
    ledgers = [to_guest(sim, vitrine), to_wire(sim, vitrine)]
    if len(sys.argv) > 3:
        received, sent = map(int, sys.argv[3:])
        ledgers[0].expect_equal("delivered = received by the guest", ledgers[0].delivered, received)
        ledgers[1].expect_equal("offered = sent by the guest", ledgers[1].offered, sent)
    faults = [fault for ledger in ledgers for fault in ledger.faults]
    faults += [f"vf_sim: {name}: {count}" for name, count in sim["faults"].items() if name.startswith("dma_") and count]
    for ledger in ledgers:
        print(f"{ledger.name}: offered {ledger.offered}, delivered {ledger.delivered}, dropped: {ledger.reasons()}")
    for fault in faults:
        print(f"WRONG: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
