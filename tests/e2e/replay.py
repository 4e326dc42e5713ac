#!/usr/bin/python3
"""Real kernel traffic, captured in namespaces, replayed at the wire to the guest and by the guest to the wire: byte
for byte and in order; with filters, exactly what a model made from the documents alone predicts."""

import pathlib
import subprocess
import sys
import tempfile

import capture_file
import filter_model
import harness
import ledger
from harness import Lab, expect, expect_equal, wait_until

CAPTURE_SCRIPT = harness.ROOT / "tests" / "support" / "capture_traffic.sh"
LEAST_FRAMES = 10_000
MTU = 1500
VF_MAC = "02:56:46:00:00:01"
CAPTURED_VLANS = {10, 20}
GROUP = "01:00:5e:01:02:03"  # 239.1.2.3, one of the groups in the captured traffic
RATE = 5000  # frames per second: far below what two busy cores carry, so that nothing need be lost


class Capture:
    """The frames of a file: as they are on the wire, padded, without those beyond the MTU."""

    def __init__(self, path: pathlib.Path):
        self.whole = capture_file.read(path)
        fitting = [frame for frame in self.whole if len(frame) <= MTU + (14 if filter_model.vlan_of(frame) is None
                                                                         else 18)]
        self.beyond_mtu = len(self.whole) - len(fitting)
        self.path = path.with_suffix(".fitting.pcap")
        capture_file.write(self.path, fitting)
        self.frames = [capture_file.padded(frame) for frame in fitting]

    def __str__(self) -> str:
        return f"{len(self.frames)} frames, {self.beyond_mtu} beyond the MTU excluded"


def make_captures(directory: pathlib.Path) -> tuple[Capture, Capture]:
    """To the VF and from it."""
    files = directory / "to_vf.pcap", directory / "from_vf.pcap"
    done = subprocess.run([CAPTURE_SCRIPT, VF_MAC, *files], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77:
        harness.skip(done.stdout.removeprefix("SKIP: ").strip())
    if done.returncode != 0:
        print(f"FAIL: {CAPTURE_SCRIPT.name}: {done.stdout}{done.stderr}")
        sys.exit(1)
    return Capture(files[0]), Capture(files[1])


def expect_same_frames(actual: list[bytes], expected: list[bytes], where: str) -> None:
    for number, (one, other) in enumerate(zip(actual, expected)):
        expect(one == other, f"frame {number} {where}: {one.hex()}, expected {other.hex()}")
    expect_equal(len(actual), len(expected), f"frames {where}")


def expect_real_mix(capture: Capture) -> None:
    """Otherwise the test proves less than it says."""
    frames = capture.frames
    expect(len(frames) >= LEAST_FRAMES, f"the capture has only {len(frames)} frames")
    vlans = {filter_model.vlan_of(frame) for frame in frames}
    expect(CAPTURED_VLANS <= vlans and None in vlans, f"VLANs in the capture: {vlans}")
    types = {frame[12:14].hex() if filter_model.vlan_of(frame) is None else frame[16:18].hex() for frame in frames}
    expect({"0800", "0806", "86dd"} <= types, f"types in the capture: {types}")
    protocols = {frame[23] for frame in frames if frame[12:14] == b"\x08\x00"}
    expect({1, 6, 17} <= protocols, f"IPv4 protocols in the capture: {protocols}")
    fragments = [frame for frame in frames if frame[12:14] == b"\x08\x00" and frame[20] & 0x3F]
    expect(len(fragments) > 0, "no fragments in the capture")


def replay(lab: Lab, capture: Capture, simulator_options: list[str], daemon_options: list[str]):
    """What arrived at the guest, and the simulator's status."""
    arrived = lab.directory / "arrived.pcap"
    simulator = lab.simulator(f"pcap:in={capture.path},rate={RATE}", "--mac", VF_MAC, "--doorbells", "poll",
                              *simulator_options)
    simulator.ask("link down")
    daemon = lab.daemon(*daemon_options)
    guest = ledger.receiving_guest(lab, "rx", "--pcap-out", str(arrived))
    ledger.open_wire(simulator, daemon)
    report = ledger.finish(simulator, daemon, guest)
    ledger.expect_received(simulator, daemon, [report], len(capture.frames))
    wire = simulator.status()
    expect_equal(wire["wire"]["not_replayed"], 0, "frames of the capture that were not replayed")
    return capture_file.read(arrived), wire, daemon.status()


def everything_arrives_with_trust(lab: Lab, capture: Capture) -> None:
    vlans = ",".join(str(vlan) for vlan in sorted(CAPTURED_VLANS))
    frames, wire, status = replay(lab, capture, ["--part", "x540", "--trust", "--pf-promiscuous"],
                                  ["--promiscuous", "--vlan", vlans])
    expect_equal(status["vf"]["filters"]["mode"], "promiscuous", "granted mode")
    expect_equal(sum(wire["drops"].values()), 0, f"drops {wire['drops']}")
    expect_same_frames(frames, capture.frames, "at the guest")


def filters_do_as_documented(lab: Lab, capture: Capture, filter_type: int, groups: list[str], vlans: set[int]) -> None:
    model = filter_model.FilterModel(filter_model.address(VF_MAC), [filter_model.address(group) for group in groups],
                                     filter_type, vlans)
    expected, verdicts = model.predict(capture.frames)
    for verdict in ("delivered", "filtered_mac", "filtered_vlan"):
        expect(verdicts[verdict] > 0, f"the model says {dict(verdicts)}: this proves nothing about {verdict}")
    options = [*(["--vlan", ",".join(str(vlan) for vlan in sorted(vlans))] if vlans else []),
               *(["--multicast", ",".join(groups)] if groups else [])]
    frames, wire, status = replay(lab, capture, ["--multicast-filter", str(filter_type)], options)
    expect_equal(status["vf"]["mac"], VF_MAC, "address of the VF")
    expect_same_frames(frames, expected, "at the guest")
    drops = {name: count for name, count in wire["drops"].items() if count}
    expect_equal(drops, {name: verdicts[name] for name in ("filtered_mac", "filtered_vlan")}, "drops by reason")


def the_guest_sends_a_capture(lab: Lab, capture: Capture, guest_dma: str) -> None:
    seen = lab.directory / "seen.pcap"
    vlans = ",".join(str(vlan) for vlan in sorted(CAPTURED_VLANS))
    simulator = lab.simulator(f"pcap:out={seen}", "--mac", VF_MAC, "--doorbells", "poll")
    daemon = lab.daemon("--vlan", vlans, "--guest-dma", guest_dma)
    report = lab.guest("tx", "--pcap-in", str(capture.path)).report()
    expect_equal(report["sent"]["skipped"], 0, "frames that the guest could not send")
    ledger.settle(simulator, daemon)
    lost = ledger.expect_sent(simulator, daemon, [report])
    expect_equal(lost, {}, "drops")
    expect_equal(simulator.status()["tx"]["frames"], len(capture.frames), "frames that the VF sent")
    expect_same_frames([capture_file.padded(frame) for frame in capture_file.read(seen)], capture.frames, "at the wire")


def frames_beyond_the_mtu_are_counted(lab: Lab, capture: Capture) -> None:
    """The excluded ones get through nowhere: here one is made, in case the capture had none."""
    long_frame = capture.frames[0][:12] + b"\x08\x00" + bytes(MTU + 5)  # a tag's room does not save it
    path = lab.directory / "long.pcap"
    capture_file.write(path, [long_frame, capture.frames[0]])
    long_capture = Capture(path)
    expect_equal(long_capture.beyond_mtu, 1, "frames beyond the MTU")
    simulator = lab.simulator("null", "--mac", VF_MAC)
    daemon = lab.daemon("--vlan", ",".join(str(vlan) for vlan in sorted(CAPTURED_VLANS)))
    report = lab.guest("tx", "--pcap-in", str(path)).report()
    ledger.settle(simulator, daemon)
    lost = ledger.expect_sent(simulator, daemon, [report])
    expect_equal(lost, {"tx_oversize": 1}, "drops")


def a_group_that_the_guest_joins_is_let_through(lab: Lab) -> None:
    """By a PF that does not trust the VF. The groups that each host listens to have one hash with this address."""
    group, vf = filter_model.address(GROUP), filter_model.address(VF_MAC)
    report = group + vf + bytes.fromhex("0800 45000000 00000000 0102 0000 0a000001 ef010203 16000000 ef010203")
    capture = lab.directory / "report.pcap"
    capture_file.write(capture, [report])
    lab.simulator("null", "--mac", VF_MAC)
    daemon = lab.daemon()
    filters = daemon.status()["vf"]["filters"]
    expect_equal((filters["mode"], filters["hashes"]), ("multicast hashes", 1), "filter before the guest reports")
    lab.guest("tx", "--pcap-in", str(capture)).report()
    wait_until(lambda: daemon.status()["vf"]["filters"]["hashes"] == 2, "the guest's group in the filter")


def main() -> None:
    suite = harness.Suite()
    with tempfile.TemporaryDirectory(prefix="vitrine-e2e.") as directory:
        to_vf, from_vf = make_captures(pathlib.Path(directory))
        print(f"captured to the VF: {to_vf}; from the VF: {from_vf}")
        suite.check("the capture is a mix of real traffic", lambda lab: expect_real_mix(to_vf))
        suite.check("with a trusting PF, promiscuous, all frames arrive byte for byte and in order",
                    everything_arrives_with_trust, to_vf)
        suite.check("without trust and VLANs, exactly what the model predicts arrives", filters_do_as_documented, to_vf,
                    0, [], set())
        for filter_type in range(4):
            suite.check(f"without trust, with a group, one VLAN and filter type {filter_type}, exactly what the model "
                        "predicts arrives", filters_do_as_documented, to_vf, filter_type, [GROUP], {10})
        for guest_dma in ("off", "on"):
            suite.check(f"the guest sends a capture with --guest-dma={guest_dma}, and the wire sees it byte for byte "
                        "and in order", the_guest_sends_a_capture, from_vf, guest_dma)
        suite.check("a group that the guest joins gets into the VF's filter",
                    a_group_that_the_guest_joins_is_let_through)
        suite.check("frames beyond the MTU are counted", frames_beyond_the_mtu_are_counted, from_vf)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
