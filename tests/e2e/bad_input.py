#!/usr/bin/python3
"""What vitrine says to bad input: one line that names the thing, an exit code, and no file left behind; and what a
front-end that talks nonsense can do to it: nothing but lose its connection."""

import collections.abc
import os
import pathlib
import socket
import struct
import sys
import tempfile

import fake_vf_server
import harness
from harness import BUILD, TRUST, Lab, expect, expect_equal, wait_until
from raw_front_end import (GET_FEATURES, NEED_REPLY, SET_FEATURES, SET_MEM_TABLE, SET_OWNER, SET_VRING_NUM, VERSION, message,
                           send_with_descriptors)

USAGE = 2
FAILED = 1
PACKET_MEMORY = ("--memory", "small")  # no huge page, no warning about it


def files_in(directory: pathlib.Path) -> set[pathlib.Path]:
    return {path for path in directory.rglob("*") if not path.is_dir()}


def expect_refusal(lab: Lab, command: list, code: int, words: collections.abc.Iterable[str],
                   speaker: str = "vitrine") -> None:
    """One line on stderr with all the words, the exit code, nothing on stdout, no new file."""
    before = files_in(lab.directory)
    process = lab.process("refused", command)
    expect_equal(process.finish(), code, f"exit code, with stderr {process.errors!r}")
    lines = process.errors.splitlines()
    expect_equal(len(lines), 1, f"lines on stderr, {process.errors!r}")
    expect(lines[0].startswith(f"{speaker}: "), f"the line does not say who speaks: {lines[0]!r}")
    for word in words:
        expect(word in lines[0], f"{word!r} is missing in {lines[0]!r}")
    expect_equal(process.output_file.read_text(), "", "stdout")
    own = {process.output_file, process.error_file}
    expect_equal(files_in(lab.directory) - before - own, set(), "files left behind")


def run(lab: Lab, *options: str | pathlib.Path) -> list:
    return [BUILD / "vitrine", "run", *TRUST, "--run-dir", lab.directory / "run", *PACKET_MEMORY, *options]


def vf(lab: Lab) -> tuple[str, str]:
    return "--vf", f"vfio-user:{lab.directory / 'vf.sock'}"


# Usage.

def refuses_options(lab: Lab, options: list[str], words: list[str]) -> None:
    expect_refusal(lab, run(lab, *vf(lab), *options), USAGE, [*words, "--help"])


def wants_a_vf(lab: Lab) -> None:
    expect_refusal(lab, run(lab), USAGE, ["--vf"])


def wants_a_verb(lab: Lab) -> None:
    expect_refusal(lab, [BUILD / "vitrine"], USAGE, ["--help"])


def refuses_configuration(lab: Lab, text: str, words: list[str]) -> None:
    file = lab.directory / "vitrine.toml"
    file.write_text(text)
    expect_refusal(lab, run(lab, *vf(lab), "--config", file), USAGE, words)


def names_an_absent_configuration(lab: Lab) -> None:
    file = lab.directory / "absent.toml"
    expect_refusal(lab, run(lab, *vf(lab), "--config", file), USAGE, [str(file)])


USAGE_ERRORS = [
    ("an unknown option", ["--no-such-option"], ["--no-such-option"]),
    ("an MTU out of range", ["--mtu", "20000"], ["--mtu", "9000"]),
    ("an MTU that is no number", ["--mtu", "large"], ["--mtu", "large"]),
    ("too many queues", ["--queues", "9"], ["--queues", "9", "4"]),
    ("a VLAN out of range", ["--vlan", "10,4096"], ["--vlan", "4095"]),
    ("a group that is none", ["--multicast", "02:00:00:00:00:01"], ["--multicast", "02:00:00:00:00:01"]),
    ("an idle time that is none", ["--idle", "soon"], ["--idle", "busy"]),
    ("two ways to the front-end", ["--socket-path", "a.sock", "--connect", "b.sock"], ["--socket-path", "--connect"]),
    ("a name with a slash", ["--name", "a/b"], ["--name", "letters"]),
    ("a VF of an unknown kind", ["--vf", "pci:0"], ["--vf", "vfio-user:PATH"]),
]

CONFIGURATION_ERRORS = [
    ("an unknown key", 'mtu = 1500\nno-such-key = 1\n', ["line 2", "no-such-key"]),
    ("a value of the wrong type", 'name = "vm1"\n\nmtu = "large"\n', ["line 3", "mtu", "large"]),
    ("a fraction for a number", "queues = 1.5\n", ["line 1", "queues", "1.5"]),
    ("a table", "[run]\nmtu = 1500\n", ["line 1", "run"]),
    ("a broken line", "mtu = 1500\nqueues =\n", ["line 2"]),
]


# The machine is not as it must be.

def names_an_absent_vf(lab: Lab) -> None:
    path = str(lab.directory / "vf.sock")
    expect_refusal(lab, run(lab, *vf(lab)), FAILED, ["--vf", path, "No such file", "server"])


def names_a_vf_without_a_server(lab: Lab) -> None:
    path = lab.directory / "vf.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    expect_refusal(lab, run(lab, *vf(lab)), FAILED, ["--vf", str(path), "refused", "server"])


def gives_up_on(lab: Lab, server: type[fake_vf_server.FakeServer], words: list[str]) -> None:
    path = lab.directory / "vf.sock"
    with server(path):
        expect_refusal(lab, run(lab, *vf(lab)), FAILED, ["--vf", str(path), *words])


def gives_up_on_a_pf_in_reset(lab: Lab) -> None:
    lab.simulator("null").ask("pf-reset 60000")
    expect_refusal(lab, run(lab, *vf(lab)), FAILED, ["--vf", "stays in reset", "driver"])


def names_an_absent_socket_directory(lab: Lab) -> None:
    lab.simulator("null")
    path = lab.directory / "absent" / "vhost.sock"
    expect_refusal(lab, run(lab, *vf(lab), "--socket-path", path), FAILED, ["--socket-path", str(path), "directory"])


def names_a_run_directory_that_cannot_be(lab: Lab) -> None:
    lab.simulator("null")
    file = lab.directory / "file"
    file.write_text("")
    command = [BUILD / "vitrine", "run", *TRUST, "--run-dir", file, *PACKET_MEMORY, *vf(lab)]
    expect_refusal(lab, command, FAILED, ["run directory", str(file), "--run-dir"])


def names_a_socket_that_is_taken(lab: Lab) -> None:
    lab.simulator("null")
    first = lab.daemon(*PACKET_MEMORY)
    second_vf = lab.second_simulator()
    command = run(lab, "--name", "second", "--vf", f"vfio-user:{second_vf.socket}",
                  "--socket-path", first.socket)
    expect_refusal(lab, command, FAILED, ["--socket-path", str(first.socket), "already"])
    expect(first.socket.is_socket(), "the first vitrine lost its socket")
    lab.guest("tx", "--count", "100").report()


def names_a_descriptor_that_is_not_there(lab: Lab) -> None:
    """Not whatever file of vitrine's own happens to get the number later."""
    expect_refusal(lab, run(lab, *vf(lab), "--fd", "6"), FAILED, ["--fd 6", "not inherited"])


def names_a_taken_name(lab: Lab) -> None:
    lab.simulator("null")
    first = lab.daemon(*PACKET_MEMORY)
    second_vf = lab.second_simulator()
    command = run(lab, "--vf", f"vfio-user:{second_vf.socket}")
    expect_refusal(lab, command, FAILED, [str(first.run_directory), "already"])
    first.expect_clean_audit()


def names_a_missing_mount_for_huge_pages(lab: Lab) -> None:
    """In a mount namespace where no hugetlbfs is left."""
    lab.simulator("null")
    script = 'findmnt --types hugetlbfs --noheadings --output TARGET | xargs --no-run-if-empty umount; exec "$@"'
    command = ["unshare", "--mount", "--", "sh", "-c", script, "sh", BUILD / "vitrine", "run",
               *TRUST, "--run-dir", lab.directory / "run", "--memory", "huge", *vf(lab)]
    expect_refusal(lab, command, FAILED, ["hugetlbfs", "mount -t hugetlbfs"])


def names_missing_huge_pages(lab: Lab) -> None:
    lab.simulator("null")
    command = [BUILD / "vitrine", "run", *TRUST, "--run-dir", lab.directory / "run", "--memory", "huge",
               "--mtu", "9000", "--pages", "65535", *vf(lab)]
    expect_refusal(lab, command, FAILED, ["huge"])


def names_a_disk_for_packet_pages(lab: Lab) -> None:
    lab.simulator("null")
    pages = lab.directory / "pages"
    expect_refusal(lab, run(lab, *vf(lab), "--rx", "pages", "--pages-path", pages), FAILED,
                   [str(pages), "neither hugetlbfs nor tmpfs", "mount -t hugetlbfs", "/dev/shm"])


def names_the_locked_memory_limit(lab: Lab) -> None:
    """As a user without rights and with 64 KiB to lock: the VF's socket must be open to it, and its own directory."""
    simulator = lab.simulator("null")
    simulator.socket.chmod(0o666)
    command = ["prlimit", "--memlock=65536:65536", *harness.as_nobody(lab.directory), *run(lab, *vf(lab))]
    expect_refusal(lab, command, FAILED, ["locked memory", "KiB needed", "64 KiB", "ulimit -l"])


# A front-end that talks nonsense.

def send_null_devices(connection: socket.socket, data: bytes, count: int) -> None:
    with open(os.devnull, "rb") as file:
        send_with_descriptors(connection, data, [file.fileno()] * count)


def send_garbage(connection: socket.socket) -> None:
    connection.sendall(b"\xa5" * 4096)


def send_wrong_version(connection: socket.socket) -> None:
    connection.sendall(message(GET_FEATURES, flags=2))


def send_a_reply(connection: socket.socket) -> None:
    connection.sendall(message(GET_FEATURES, flags=VERSION | 1 << 2))


def send_oversize(connection: socket.socket) -> None:
    connection.sendall(message(SET_FEATURES, size=0xFFFFFFFF))


def send_too_long_payload(connection: socket.socket) -> None:
    connection.sendall(message(SET_FEATURES, bytes(16)))


def send_truncated(connection: socket.socket) -> None:
    connection.sendall(message(SET_FEATURES, bytes(3), size=8))
    connection.shutdown(socket.SHUT_WR)


def send_half_a_message(connection: socket.socket) -> None:
    """And never the other half."""
    connection.sendall(message(SET_FEATURES, bytes(8))[:9])


def send_unknown_request(connection: socket.socket) -> None:
    connection.sendall(message(4711))


def send_ring_that_is_not(connection: socket.socket) -> None:
    connection.sendall(message(SET_VRING_NUM, struct.pack("<II", 77, 256)))


def send_too_many_regions(connection: socket.socket) -> None:
    connection.sendall(message(SET_MEM_TABLE, struct.pack("<II", 33, 0)))


def send_253_descriptors(connection: socket.socket) -> None:
    send_null_devices(connection, message(SET_OWNER), 253)


def send_memory_without_pages(connection: socket.socket) -> None:
    """A region in a file that cannot be mapped."""
    region = struct.pack("<IIQQQQ", 1, 0, 0, 1 << 20, 1 << 40, 0)
    send_null_devices(connection, message(SET_MEM_TABLE, region), 1)


MALFORMED = [
    ("garbage", send_garbage, {"bad_flags"}),
    ("a message of another version", send_wrong_version, {"bad_flags"}),
    ("a reply to nothing", send_a_reply, {"bad_flags"}),
    ("a message of 4 GiB", send_oversize, {"bad_size"}),
    ("a payload that is too long", send_too_long_payload, {"bad_size"}),
    ("a message that ends early", send_truncated, {"broken_stream"}),
    ("half a message and then silence", send_half_a_message, {"broken_stream"}),
    ("an unknown request", send_unknown_request, {"unknown_request"}),
    ("a ring that is not there", send_ring_that_is_not, {"bad_ring"}),
    ("more regions than a table may have", send_too_many_regions, {"bad_size", "bad_region", "bad_value"}),
    ("253 descriptors", send_253_descriptors, {"bad_descriptors", "broken_stream"}),
    ("memory in a file that cannot be mapped", send_memory_without_pages, {"bad_region", "system_error"}),
]


def closed(connection: socket.socket) -> bool:
    """What the other side said before it closed does not matter."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def open_descriptors(daemon: harness.Daemon) -> int:
    """One more for a moment, while vitrine has not noticed that vitrinectl is gone."""
    return len(os.listdir(f"/proc/{daemon.child.pid}/fd"))


def refuses_messages(lab: Lab, sender: collections.abc.Callable, reasons: set[str]) -> None:
    lab.simulator("gen:size=64,count=1000,rate=50000")
    daemon = lab.daemon(*PACKET_MEMORY)
    descriptors = open_descriptors(daemon)
    before = daemon.status()["front_end"]["session"]
    with daemon.connect() as connection:
        sender(connection)
        expect(closed(connection), "the connection stays open")
    wait_until(lambda: not daemon.status()["front_end"]["connected"], "vitrine to notice the end")
    after = daemon.status()["front_end"]["session"]
    counted = {name for name, value in after.items() if value > before[name]} - {"connections", "messages"}
    expect(len(counted) == 1 and counted <= reasons, f"counted as {counted}, expected one of {reasons}")
    expect_equal(after["connections"], before["connections"] + 1, "connections")
    wait_until(lambda: open_descriptors(daemon) <= descriptors, f"{descriptors} open descriptors, not more")
    lab.guest("tx", "--count", "1000").report()
    expect(daemon.running(), "vitrine ended")
    daemon.expect_clean_audit()


def refuses_a_command_of_vf_sim(lab: Lab) -> None:
    command = [BUILD / "vf_sim", "--socket", lab.directory / "vf.sock", "--command", "make coffee"]
    expect_refusal(lab, command, USAGE, ["--command", "make coffee", "vlan"], "vf_sim")


def main() -> None:
    suite = harness.Suite()
    for what, options, words in USAGE_ERRORS:
        suite.check(f"{what} on the command line is a usage error", refuses_options, options, words)
    suite.check("a command of vf_sim that there is not is a usage error", refuses_a_command_of_vf_sim)
    suite.check("a run without --vf is a usage error", wants_a_vf)
    suite.check("a call without a verb is a usage error", wants_a_verb)
    for what, text, words in CONFIGURATION_ERRORS:
        suite.check(f"{what} in the configuration is a usage error that names the line", refuses_configuration, text,
                    words)
    suite.check("a configuration file that is not there is named", names_an_absent_configuration)

    suite.check("a VF socket that is not there is named", names_an_absent_vf)
    suite.check("a VF socket without a server is named", names_a_vf_without_a_server)
    suite.check("a VF server that accepts and never answers is given up", gives_up_on, fake_vf_server.MuteServer,
                ["VERSION", "server"])
    suite.check("a VF server that talks nonsense is given up", gives_up_on, fake_vf_server.BabblingServer,
                ["VERSION", "server"])
    suite.check("a PF that never answers is given up", gives_up_on, fake_vf_server.SilentPfServer, ["PF", "silent"])
    suite.check("a PF that stays in reset is given up", gives_up_on_a_pf_in_reset)
    suite.check("a socket directory that is not there is named", names_an_absent_socket_directory)
    suite.check("a run directory that cannot be made is named", names_a_run_directory_that_cannot_be)
    suite.check("a socket that another vitrine listens at is named, and left to it", names_a_socket_that_is_taken)
    suite.check("a descriptor that nobody handed over is named", names_a_descriptor_that_is_not_there)
    suite.check("a name that another vitrine runs under is refused", names_a_taken_name)
    if os.geteuid() == 0:
        suite.check("a missing mount for huge pages is named", names_a_missing_mount_for_huge_pages)
    else:
        print("SKIP: a missing mount for huge pages: needs root")
    if tempfile.gettempdir().startswith("/dev/shm"):
        print("SKIP: packet pages on a disk: temporary files are in memory")
    else:
        suite.check("a disk is no place for packet pages, says a line that names one", names_a_disk_for_packet_pages)
    if harness.free_huge_pages() > 512:
        print(f"SKIP: missing huge pages: {harness.free_huge_pages()} are free, more than the test can ask for")
    else:
        suite.check("missing huge pages are named", names_missing_huge_pages)
    if os.geteuid() != 0 or not harness.readable_for_others(BUILD / "vitrine"):
        print("SKIP: the locked-memory limit: needs root, and a build directory that others may read")
    else:
        suite.check("the locked-memory limit is named with the number needed", names_the_locked_memory_limit)

    for what, sender, reasons in MALFORMED:
        suite.check(f"{what} ends that connection, is counted, and the next guest works", refuses_messages, sender,
                    reasons)
    suite.finish()


if __name__ == "__main__":
    sys.exit(main())
