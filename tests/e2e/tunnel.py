#!/usr/bin/python3
"""Linux at one end of a tunnel, vitrine at the other: frames that the kernel's vxlan (or geneve) device encapsulates
arrive in the guest byte for byte, in pages and by copy; and what the guest sends the kernel decapsulates. The kernel
and vitrine find each other by ARP and by neighbour discovery. And a VLAN, ended by the NIC."""

import json
import os
import subprocess
import sys

import capture_file
import harness
import ledger
import tunnel_frames
from harness import Lab, expect, expect_equal, wait_until

FRAMES = 100_000 if harness.LONG else 1100
SENT_PER_SECOND = 10_000  # the kernel's end is python
VNI = 42
PORTS = {"vxlan": 4789, "geneve": 6081}
LOCAL = {4: "10.99.0.1", 6: "fd99::1"}
REMOTE = {4: "10.99.0.2", 6: "fd99::2"}
OVERHEAD = {4: 50, 6: 70}
JUMBO_HUGE_PAGES = 40


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def kernel_has(kind: str) -> bool:
    options = ("id", "1", "remote", "10.9.9.9", *(["dstport", "4789"] if kind == "vxlan" else []))
    made = subprocess.run(["ip", "link", "add", "probe", "type", kind, *options], capture_output=True, check=False)
    if made.returncode == 0:
        run("ip", "link", "del", "probe")
    return made.returncode == 0


def quiet(interface: str, *addresses: str, mtu: int) -> None:
    """An interface that says nothing by itself but what its addresses need."""
    with open(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6", "w") as file:
        file.write("0" if addresses else "1")
    run("ip", "link", "set", interface, "mtu", str(mtu), "up")
    for address in addresses:
        run("ip", "address", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))


class KernelEnd:
    """A tap for the wire, and the interface behind which the tunnel is."""

    def __init__(self, wire_mtu: int, inside: str = "tunnel"):
        self.inside = inside
        run("ip", "tuntap", "add", "wire", "mode", "tap")
        run("ip", "link", "set", "wire", "txqueuelen", "10000")
        quiet("wire", "10.99.0.2/24", "fd99::2/64", mtu=wire_mtu)

    def add_device(self, kind: str, version: int, guest_mtu: int) -> None:
        options = ["id", str(VNI), "dstport", str(PORTS[kind]), "remote", LOCAL[version]]
        if kind == "vxlan":
            options += ["local", REMOTE[version], "dev", "wire"]
        if version == 6:
            options += ["udp6zerocsumrx"]
        run("ip", "link", "add", "tunnel", "type", kind, *options)
        quiet("tunnel", mtu=guest_mtu)

    def close(self) -> None:
        for name in ("tunnel", "wire"):
            subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)

    def counters(self) -> dict:
        return json.loads(run("ip", "-s", "-j", "link", "show", "dev", self.inside))[0]["stats64"]


def passes_frames(lab: Lab, kind: str, version: int, rx: str, guest_mtu: int, guest_dma: str = "off") -> None:
    end = KernelEnd(guest_mtu + OVERHEAD[version])
    try:
        end.add_device(kind, version, guest_mtu)
        tunnel = f"{kind}:vni={VNI},local={LOCAL[version]},remote={REMOTE[version]}"
        pages = lab.pages
        jumbo = guest_mtu > 1500
        lab.simulator("tap:wire", "--doorbells", "poll", *(["--pf-mtu", "9000"] if jumbo else []))
        daemon = lab.daemon("--tunnel", tunnel, "--guest-dma", guest_dma, *(["--mtu", str(guest_mtu)] if jumbo else []),
                            *(["--rx", "pages", "--pages-path", str(pages)] if rx == "pages" else []))
        wait_until(lambda: daemon.status()["tunnel"]["next_hop_mac"], "vitrine to find the kernel")
        receives(lab, daemon, end, guest_mtu, ["--pages", str(pages)] if rx == "pages" else [])
        sends(lab, daemon, end, guest_mtu, guest_dma)
        status = daemon.status()
        expect(ledger.total(status, "receive", "neighbour_messages") > 0, "no ARP or ND message was taken")
        expect(ledger.total(status, "transmit", "own_frames") > 0, "vitrine asked and answered nobody")
        expect_equal(daemon.terminate(), 0, "the daemon's end")
    finally:
        end.close()


def passes_frames_in_a_vlan(lab: Lab, rx: str, guest_dma: str) -> None:
    """Not every kernel has VLAN devices: a helper puts the tag on at the kernel's end."""
    end = KernelEnd(1500, inside="vlan7")
    try:
        helper = lab.process("vlan_tap", [sys.executable, harness.ROOT / "tests/support/vlan_tap.py", "wire", "7"])
        helper.wait_until_ready(lambda: helper.output_file.read_text() == "READY\n")
        run("ip", "link", "set", "vlan7", "txqueuelen", "10000")
        quiet("vlan7", mtu=1500)
        pages = lab.pages
        lab.simulator("tap:wire", "--doorbells", "poll")
        daemon = lab.daemon("--tunnel", "vlan:id=7", "--guest-dma", guest_dma,
                            *(["--rx", "pages", "--pages-path", str(pages)] if rx == "pages" else []))
        receives(lab, daemon, end, 1500, ["--pages", str(pages)] if rx == "pages" else [])
        sends(lab, daemon, end, 1500, guest_dma)
        # Without a tag nothing reaches the guest.
        before = ledger.total(daemon.status(), "receive", "drop_not_tunnel")
        tunnel_frames.send("wire", [b"\xff" * 6 + bytes(54)] * 10)
        wait_until(lambda: ledger.total(daemon.status(), "receive", "drop_not_tunnel") >= before + 10,
                   "frames without a tag to be dropped")
    finally:
        end.close()


def receives(lab: Lab, daemon: harness.Daemon, end: KernelEnd, guest_mtu: int, options: list[str]) -> None:
    arrived = lab.directory / "arrived.pcap"
    guest = ledger.receiving_guest(lab, "rx", "--pcap-out", str(arrived), *options)
    # The first interrupt comes with the start of the ring; frames before it have no guest.
    wait_until(lambda: ledger.total(daemon.status(), "receive_ring", "calls"), "the receive ring to start")
    wait_until(lambda: daemon.status()["vf"]["state"] == "up", "the link")
    expected = tunnel_frames.frames(FRAMES, guest_mtu, tunnel_frames.TO_GUEST)
    way = "lent" if options else "copied"
    tunnel_frames.send(end.inside, expected, burst=500, after_each_burst=lambda number: wait_until(
        lambda: ledger.total(daemon.status(), "receive", way) >= number, f"{number} frames to arrive"))
    wait_until(lambda: ledger.total(daemon.status(), "receive", way) >= FRAMES, f"{FRAMES} frames to arrive")
    report = guest.stop()
    expect_equal((report["bad"], report["violations"]), (0, 0), "bad frames and broken rules")
    found = [frame for frame in capture_file.read(arrived) if tunnel_frames.is_ours(frame)]
    difference = tunnel_frames.first_difference(found, expected)
    expect(difference == "", f"at the guest: {difference}")
    status = daemon.status()
    expect_equal(ledger.total(status, "receive", "copied" if options else "lent"), 0, "frames the other way")
    from_nic = ledger.total(status, "receive", "frames_from_nic")
    named = ledger.total(status, "receive", "neighbour_messages") + sum(ledger.drops(status, "receive").values())
    expect_equal(ledger.total(status, "receive_ring", "frames") + named, from_nic, "frames with a name")
    daemon.expect_clean_audit()


def sends(lab: Lab, daemon: harness.Daemon, end: KernelEnd, guest_mtu: int, guest_dma: str) -> None:
    expected = tunnel_frames.frames(FRAMES, guest_mtu, tunnel_frames.TO_KERNEL)
    capture = lab.directory / "to_send.pcap"
    capture_file.write(capture, expected)
    before = end.counters()["rx"]
    receiver = tunnel_frames.Receiver(end.inside, FRAMES)
    report = lab.guest("tx", "--pcap-in", str(capture), "--rate", str(SENT_PER_SECOND)).report()
    expect_equal(report["sent"]["skipped"], 0, "frames that the guest could not send")
    difference = tunnel_frames.first_difference(receiver.take(), expected)
    expect(difference == "", f"behind the kernel's device: {difference}")
    after = end.counters()["rx"]
    expect(after["packets"] - before["packets"] >= FRAMES, f"the device counted {after} after {before}")
    expect_equal((after["errors"], after["dropped"]), (0, 0), "errors and drops of the device")
    in_place = ledger.total(daemon.status(), "transmit", "zero_copy")
    expect(in_place > 0 if guest_dma == "on" else in_place == 0, f"{in_place} frames sent in place")


def main() -> None:
    if os.geteuid() != 0:
        harness.skip("no permission to make network interfaces (run as root)")
    if "VITRINE_OWN_NETWORK" not in os.environ:  # whatever this test makes ends with it
        os.environ["VITRINE_OWN_NETWORK"] = "1"
        os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])
    kinds = [kind for kind in PORTS if kernel_has(kind)]
    suite = harness.Suite()
    for rx, guest_dma in (("copy", "on"), ("pages", "off")):
        suite.check(f"VLAN, {rx}: {FRAMES} frames each way, byte for byte", passes_frames_in_a_vlan, rx, guest_dma)
    for kind in kinds:
        for version in (4, 6):
            for rx in ("copy", "pages"):
                suite.check(f"{kind} over IPv{version}, {rx}: {FRAMES} frames each way, byte for byte", passes_frames,
                            kind, version, rx, 1500 - OVERHEAD[version], guest_dma="on" if rx == "pages" else "off")
        if harness.free_huge_pages() >= JUMBO_HUGE_PAGES:
            suite.check(f"{kind} at 9000 bytes of wire MTU, pages: {FRAMES} frames each way, byte for byte",
                        passes_frames, kind, 4, "pages", 9000 - OVERHEAD[4], guest_dma="on")
        else:
            print("not here: frames of 9000 bytes need huge pages, or more locked memory than is usual")
    for kind in [kind for kind in PORTS if kind not in kinds]:
        print(f"not here: this kernel has no {kind} (tests/vm/test_tunnel.sh brings one)")
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
