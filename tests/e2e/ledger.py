"""Both ends' counters against each other: what was sent arrived, or is in exactly one drop with a name."""

import harness
from harness import Daemon, Guest, Simulator, expect_equal, wait_until


def total(status: dict, part: str, counter: str) -> int:
    """Over all queue pairs."""
    return sum(pair[part][counter] for pair in status["pairs"])


def drops(status: dict, part: str) -> dict[str, int]:
    names = [name for name in status["pairs"][0][part] if name.startswith(("drop_", "tx_"))]
    return {name: total(status, part, name) for name in names}


def settled(simulator: Simulator, daemon: Daemon) -> bool:
    """The wire has sent all, and nothing is under way in the NIC or in vitrine."""
    wire = simulator.status()
    status = daemon.status()
    return (wire["done"]
            and wire["wire"]["rx_delivered"] == total(status, "receive", "frames_from_nic")
            and wire["tx"]["frames"] + sum(wire["tx"]["dropped"].values())
            == total(status, "transmit", "frames_to_nic"))


def settle(simulator: Simulator, daemon: Daemon) -> None:
    wait_until(lambda: settled(simulator, daemon), "the frames under way")


def expect_faultless(wire: dict) -> None:
    expect_equal(sum(wire["faults"].values()), 0, f"faults of the simulated NIC {wire['faults']}")
    expect_equal(sum(wire["tx"]["halted"].values()), 0, f"halted queues {wire['tx']['halted']}")
    expect_equal(wire["sessions"]["malformed"], {}, "malformed vfio-user messages")


def expect_received(simulator: Simulator, daemon: Daemon, reports: list[dict], offered: int) -> dict[str, int]:
    """From the wire to the guests, whose reports are given. Returns every drop that there was, by name."""
    wire, status = simulator.status(), daemon.status()
    expect_faultless(wire)
    expect_equal(wire["wire"]["offered"], offered, "frames that the wire offered")
    expect_equal(wire["wire"]["rx_delivered"] + sum(wire["drops"].values()), offered, "delivered and dropped by the NIC")
    from_nic = total(status, "receive", "frames_from_nic")
    to_guest = total(status, "receive_ring", "frames")
    dropped = drops(status, "receive")
    expect_equal(from_nic, wire["wire"]["rx_delivered"], "frames that vitrine took from the NIC")
    expect_equal(to_guest + sum(dropped.values()), from_nic, f"given to the guest and dropped {dropped}")
    expect_equal(sum(report["received"]["frames"] for report in reports), to_guest, "frames that the guests saw")
    expect_equal(sum(report["received"]["bytes"] for report in reports), total(status, "receive_ring", "bytes"),
                 "bytes that the guests saw")
    expect_equal(sum(report["bad"] + report["violations"] for report in reports), 0, "bad frames and broken rules")
    daemon.expect_clean_audit()
    return {name: count for name, count in (wire["drops"] | dropped).items() if count}


def expect_sent(simulator: Simulator, daemon: Daemon, reports: list[dict]) -> dict[str, int]:
    """From the guests to the wire. Returns every drop that there was, by name."""
    wire, status = simulator.status(), daemon.status()
    expect_faultless(wire)
    by_guest = sum(report["sent"]["frames"] for report in reports)
    from_guest = total(status, "transmit_ring", "frames")
    to_nic = total(status, "transmit", "frames_to_nic")
    refused = drops(status, "transmit_ring")
    dropped = drops(status, "transmit")
    by_nic = wire["tx"]["dropped"]
    expect_equal(sum(report["sent"]["unfinished"] for report in reports), 0, "frames that vitrine left unused")
    expect_equal(from_guest + sum(refused.values()), by_guest, f"taken and refused {refused}")
    expect_equal(to_nic + sum(dropped.values()), from_guest, f"given to the NIC and dropped {dropped}")
    expect_equal(total(status, "transmit", "copied") + total(status, "transmit", "zero_copy"), to_nic,
                 "copied and sent in place")
    expect_equal(wire["tx"]["frames"] + sum(by_nic.values()), to_nic, f"sent and dropped by the NIC {by_nic}")
    daemon.expect_clean_audit()
    return {name: count for name, count in (refused | dropped | by_nic).items() if count}


def finish(simulator: Simulator, daemon: Daemon, guest: Guest) -> dict:
    """Ends a guest that receives, once all frames are where they will stay."""
    settle(simulator, daemon)
    return guest.stop()


def receiving_guest(lab: harness.Lab, mode: str = "check", *options: str) -> Guest:
    """One that goes on until it is told to end."""
    patience = str(10 * harness.PATIENCE_SECONDS)
    return lab.guest(mode, "--idle-seconds", patience, "--wait-seconds", patience, *options)


def open_wire(simulator: Simulator, daemon: Daemon) -> None:
    """With the link down until the guest is there, none of its frames are dropped for want of a guest."""
    wait_until(lambda: int(daemon.status()["front_end"]["features"], 16), "the front-end")
    simulator.ask("link up")
