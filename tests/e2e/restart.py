#!/usr/bin/python3
"""Each of the programs dies in the middle of traffic, the link goes and the PF resets, and traffic comes back.

Without --reconnect vitrine-guest says that its back-end is gone and ends, so that after the death of vitrine the guest
starts anew as well. With it the guest lives on, and its rings are taken up where they stood.
"""

import signal
import sys

import harness
import ledger
from harness import Daemon, Guest, Lab, Simulator, expect, expect_equal, wait_until

ENDLESS = "gen:size=64,rate=20000"
ROUNDS = 10 if harness.LONG else 1


def received(daemon: Daemon) -> int:
    return ledger.total(daemon.status(), "receive_ring", "frames")


def sent(simulator: Simulator) -> int:
    return simulator.status()["tx_checked"]["good"]


def expect_traffic(daemon: Daemon) -> None:
    """Frames reach the guest now."""
    before = received(daemon)
    wait_until(lambda: received(daemon) > before + 1000, "traffic")


def start(lab: Lab, guest_mode: str = "check") -> tuple[Simulator, Daemon, Guest]:
    simulator = lab.simulator(ENDLESS, "--doorbells", "poll")
    daemon = lab.daemon()
    guest = ledger.receiving_guest(lab, guest_mode)
    expect_traffic(daemon)
    return simulator, daemon, guest


def expect_good_end(guest: Guest) -> None:
    report = guest.stop()
    expect_equal(report["bad"] + report["violations"], 0, f"bad frames and broken rules {report}")


def vitrine_is_killed(lab: Lab) -> None:
    simulator, daemon, guest = start(lab)
    for _ in range(ROUNDS):
        daemon.kill()
        expect_equal(guest.finish(), 1, "exit code of a guest whose back-end is gone")
        wait_until(lambda: not simulator.status()["connected"], "the simulator to notice")
        daemon = lab.daemon()
        guest = ledger.receiving_guest(lab)
        expect_traffic(daemon)
        daemon.expect_clean_audit()
    expect_good_end(guest)
    ledger.expect_faultless(simulator.status())


def the_guest_lives_on(lab: Lab, mode: str, *options: str) -> None:
    simulator = lab.simulator(ENDLESS, "--doorbells", "poll")
    daemon = lab.daemon()
    guest = ledger.receiving_guest(lab, mode, "--reconnect", "1000", *options)
    for _ in range(ROUNDS + 2):
        if mode != "tx":
            expect_traffic(daemon)
        if mode != "check":
            before = sent(simulator)
            wait_until(lambda: sent(simulator) > before + 1000, "traffic from the guest")
        daemon.kill()
        daemon = lab.daemon()
    if mode != "tx":
        expect_traffic(daemon)
    report = guest.stop()
    expect_equal(report["bad"] + report["violations"], 0, f"bad frames and broken rules {report}")
    expect_equal(report["reconnects"], ROUNDS + 2, "returns of the back-end that the guest saw")
    ledger.expect_faultless(simulator.status())


def the_guest_is_killed(lab: Lab, mode: str, *options: str) -> None:
    simulator = lab.simulator(ENDLESS, "--doorbells", "poll")
    daemon = lab.daemon("--guest-dma", "on")
    for _ in range(ROUNDS + 2):
        before = sent(simulator)
        guest = ledger.receiving_guest(lab, mode, *options)
        if mode == "tx":
            wait_until(lambda: sent(simulator) > before + 1000, "traffic from the guest")
        else:
            expect_traffic(daemon)
        guest.kill()
        wait_until(lambda: not daemon.status()["front_end"]["connected"], "vitrine to notice")
        daemon.expect_clean_audit()
    guest = ledger.receiving_guest(lab)
    expect_traffic(daemon)
    expect_good_end(guest)
    daemon.expect_clean_audit()
    ledger.expect_faultless(simulator.status())


def the_simulator_is_killed(lab: Lab) -> None:
    simulator, daemon, guest = start(lab, "rx")  # each simulator counts its frames from 0
    for death in range(1, ROUNDS + 1):
        simulator.kill()
        wait_until(lambda: daemon.status()["vf"]["state"] == "absent", "vitrine to notice")
        daemon.expect_clean_audit()
        expect_equal(daemon.status()["vf"]["losses"], death, "losses counted")
        simulator = lab.simulator(ENDLESS, "--doorbells", "poll")
        expect_traffic(daemon)
        daemon.expect_clean_audit()
    expect(guest.running(), "the guest ended")
    expect_good_end(guest)


def the_simulator_stands_still(lab: Lab) -> None:
    """Whoever asks vitrine for its status meanwhile gets an answer; the card that did not answer is taken for lost."""
    simulator, daemon, guest = start(lab, "rx")
    for stop in range(1, ROUNDS + 1):
        simulator.send(signal.SIGSTOP)
        wait_until(lambda: daemon.status()["vf"]["state"] == "absent", "vitrine to notice")
        daemon.expect_clean_audit()
        expect_equal(daemon.status()["vf"]["losses"], stop, "losses counted")
        simulator.send(signal.SIGCONT)
        expect_traffic(daemon)
        daemon.expect_clean_audit()
    expect_good_end(guest)


def a_sending_guest_outlives_the_simulator(lab: Lab) -> None:
    """Without a VF its frames are taken and dropped, so that its rings do not hang."""
    simulator = lab.simulator("gen:count=0", "--doorbells", "poll")
    daemon = lab.daemon("--guest-dma", "on")
    guest = lab.guest("tx", "--seconds", "100000", "--size", "1518")
    wait_until(lambda: sent(simulator) > 1000, "traffic from the guest")
    simulator.kill()
    wait_until(lambda: ledger.total(daemon.status(), "transmit", "drop_link_down") > 1000, "drops without a VF")
    daemon.expect_clean_audit()
    simulator = lab.simulator("gen:count=0", "--doorbells", "poll")
    wait_until(lambda: sent(simulator) > 1000, "traffic from the guest")
    guest.stop()
    status = daemon.status()
    taken = ledger.total(status, "transmit_ring", "frames")
    to_nic = ledger.total(status, "transmit", "frames_to_nic")
    expect_equal(to_nic + ledger.total(status, "transmit", "drop_link_down"), taken, "given to the NIC and dropped")
    daemon.expect_clean_audit()
    ledger.expect_faultless(simulator.status())


def the_link_goes_and_comes(lab: Lab) -> None:
    simulator, daemon, guest = start(lab)
    for down in range(1, ROUNDS + 1):
        simulator.ask("link down")
        wait_until(lambda: daemon.status()["vf"]["state"] == "link down", "vitrine to notice")
        expect_equal(daemon.status()["vf"]["link_downs"], down, "link downs counted")
        daemon.expect_clean_audit()
        simulator.ask("link up")
        expect_traffic(daemon)
    expect_good_end(guest)
    daemon.expect_clean_audit()
    ledger.expect_faultless(simulator.status())


def the_pf_resets(lab: Lab) -> None:
    simulator, daemon, guest = start(lab)
    for reset in range(1, ROUNDS + 1):
        simulator.ask("pf-reset")
        wait_until(lambda: daemon.status()["vf"]["resets"] >= reset, "vitrine to reset the VF")
        expect_traffic(daemon)
        daemon.expect_clean_audit()
    expect_good_end(guest)
    ledger.expect_faultless(simulator.status())


def the_host_resets_the_function(lab: Lab) -> None:
    """With the link up, with the link down, and so that it looks like a link that went."""
    simulator, daemon, guest = start(lab)
    for reset in range(1, 3 * ROUNDS + 1):
        if reset % 3 != 0:
            simulator.ask("link down")
        if reset % 3 == 1:
            wait_until(lambda: daemon.status()["vf"]["state"] == "link down", "vitrine to notice the link")
        simulator.ask("flr")
        wait_until(lambda: daemon.status()["vf"]["resets"] >= reset, "vitrine to reset the VF")
        simulator.ask("link up")
        expect_traffic(daemon)
        daemon.expect_clean_audit()
    expect_good_end(guest)
    ledger.expect_faultless(simulator.status())


def the_pf_resets_for_long(lab: Lab) -> None:
    """Longer than one attempt of vitrine lasts."""
    simulator, daemon, guest = start(lab)
    simulator.ask("pf-reset 4000")
    expect_traffic(daemon)
    expect(daemon.status()["vf"]["resets"] >= 1, "no reset was counted")
    expect_good_end(guest)
    daemon.expect_clean_audit()
    ledger.expect_faultless(simulator.status())


def a_clean_end_leaves_nothing(lab: Lab) -> None:
    simulator, daemon, guest = start(lab)
    expect_equal(daemon.terminate(), 0, "exit code of vitrine after SIGTERM")
    expect_equal(guest.finish(), 1, "exit code of a guest whose back-end is gone")
    expect_equal(simulator.terminate(), 0, "exit code of the simulator after SIGTERM")
    sockets = [str(path) for path in lab.directory.rglob("*") if path.is_socket()]
    expect_equal(sockets, [], "sockets left behind")


def main() -> None:
    suite = harness.Suite()
    suite.check("vitrine is killed in traffic: the next one takes its place", vitrine_is_killed)
    for mode, *options in (["check"], ["echo"], ["tx", "--seconds", "100000", "--size", "1518"]):
        suite.check(f"vitrine is killed in traffic under a guest that lives on: {mode} goes on", the_guest_lives_on, mode,
                    *options)
    suite.check("a receiving guest is killed in traffic: the next one works", the_guest_is_killed, "check")
    suite.check("a sending guest is killed in traffic: the next one works", the_guest_is_killed, "tx", "--seconds",
                "100000", "--size", "1518")
    suite.check("the simulator is killed in traffic: vitrine waits, and goes on with the next one",
                the_simulator_is_killed)
    suite.check("the simulator stands still: vitrine answers, and takes the card back when it moves again",
                the_simulator_stands_still)
    suite.check("a sending guest outlives the death of the simulator", a_sending_guest_outlives_the_simulator)
    suite.check("the link goes down in traffic and comes up again", the_link_goes_and_comes)
    suite.check("the PF resets in traffic", the_pf_resets)
    suite.check("the host resets the function in traffic, the link up or down", the_host_resets_the_function)
    suite.check("the PF resets for longer than one attempt lasts", the_pf_resets_for_long)
    suite.check("a clean end in traffic leaves no socket behind", a_clean_end_leaves_nothing)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
