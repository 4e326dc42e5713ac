"""Starts the real programs for the end-to-end tests, asks them what they counted, and leaves nothing behind.

A test script makes one Suite and hands it functions; each gets a Lab of its own: a temporary directory and the
programs that run in it. Limits here are hang guards; nothing is judged by the clock.
"""

import collections.abc
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

LONG = os.environ.get("VITRINE_LONG") == "1"
ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("VITRINE_BUILD", ROOT / "build"))
PROGRAMS = ("vf_sim", "vitrine", "vitrinectl", "vitrine-guest")
PATIENCE_SECONDS = 300 if LONG else 60
TRUST = ("--allow-root", "--allow-same-uid", "--seccomp", "kill")  # tests run as whoever starts them
NOBODY = 65534


class Failure(Exception):
    """What a check expected and did not find."""


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise Failure(message)


def expect_equal(actual: object, expected: object, what: str) -> None:
    expect(actual == expected, f"{what}: {actual!r}, expected {expected!r}")


def skip(reason: str) -> None:
    print(f"SKIP: {reason}", flush=True)
    sys.exit(77)


def wait_until(condition: collections.abc.Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS):
    """Returns the first true value of the condition."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        expect(time.monotonic() < deadline, f"waited {seconds} s for {what}")
        time.sleep(0.02)


def listening(path: pathlib.Path) -> bool:
    """Whether somebody does: the socket of a killed process stays, and refuses."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(os.fspath(path))
    except OSError:
        return False
    return True


def as_nobody(directory: pathlib.Path) -> tuple[str, ...]:
    """What makes a command run as a user without rights, in a directory where it may make files."""
    directory.chmod(0o755)
    (directory / "run").mkdir(exist_ok=True)
    for path in (directory / "run", directory):
        os.chown(path, NOBODY, NOBODY)
    return "setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"


def readable_for_others(path: pathlib.Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def free_huge_pages() -> int:
    files = pathlib.Path("/sys/kernel/mm/hugepages").glob("*/free_hugepages")
    return max((int(file.read_text()) for file in files), default=0)


class Process:
    """A child with its output in files."""

    def __init__(self, directory: pathlib.Path, name: str, command: list[str], **options):
        self.name = name
        self.output_file = directory / f"{name}.out"
        self.error_file = directory / f"{name}.err"
        # If this script is killed itself, its children must not stay.
        tied = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with open(self.output_file, "wb") as output, open(self.error_file, "wb") as error:
            self.child = subprocess.Popen(tied, stdin=subprocess.DEVNULL, stdout=output, stderr=error, **options)

    @property
    def errors(self) -> str:
        return self.error_file.read_text(errors="replace")

    def running(self) -> bool:
        return self.child.poll() is None

    def wait_until_ready(self, ready: collections.abc.Callable[[], bool], may_end: bool = False) -> None:
        wait_until(lambda: not self.running() or ready(), f"{self.name} to be ready")
        expect(may_end or self.running(), f"{self.name} ended early: {self.errors}")

    def finish(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Waits for a process that ends by itself."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end within {seconds} s") from None

    def send(self, number: signal.Signals) -> None:
        if self.running():
            self.child.send_signal(number)

    def terminate(self) -> int:
        self.send(signal.SIGTERM)
        return self.finish(20)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.child.wait()


class Simulator(Process):
    """vf_sim; `control` takes a line and answers with a JSON object. With trapped doorbells it is strict."""

    def __init__(self, directory: pathlib.Path, wire: str, options: tuple[str, ...], name: str):
        self.socket = directory / "vf.sock"
        self.control = directory / "vf.control"
        strict = () if "poll" in options else ("--strict",)
        command = [BUILD / "vf_sim", "--socket", self.socket, "--control", self.control, "--wire", wire, *strict,
                   *options]
        super().__init__(directory, name, command)
        self.wait_until_ready(lambda: listening(self.control))

    def ask(self, command: str) -> dict:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE_SECONDS)
            control.connect(os.fspath(self.control))
            control.sendall(command.encode() + b"\n")
            return json.loads(control.makefile().readline())

    def status(self) -> dict:
        return self.ask("status")


class Daemon(Process):
    """vitrine run, and vitrinectl that asks it."""

    def __init__(self, directory: pathlib.Path, options: tuple[str, ...], name: str,
                 front_end: tuple[str, ...] | None = None, before: tuple[str, ...] = (), trust: tuple[str, ...] = TRUST,
                 program: str = "vitrine", may_end: bool = False, **process_options):
        self.socket = directory / "vhost.sock"
        self.run_directory = directory / "run"
        command = [*before, BUILD / program, "run", *trust, "--run-dir", self.run_directory,
                   "--vf", f"vfio-user:{directory / 'vf.sock'}",
                   *(front_end or ("--socket-path", self.socket)), *options]
        super().__init__(directory, name, command, **process_options)
        self.wait_until_ready(lambda: self.run_vitrinectl("status").returncode == 0, may_end)

    def run_vitrinectl(self, verb: str) -> subprocess.CompletedProcess:
        command = [BUILD / "vitrinectl", verb, "--json", "--run-dir", self.run_directory]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)

    def ask(self, verb: str) -> tuple[int, dict]:
        done = self.run_vitrinectl(verb)
        expect(done.stdout != "", f"vitrinectl {verb} said: {done.stderr}")
        return done.returncode, json.loads(done.stdout)

    def connect(self) -> socket.socket:
        """As a front-end that says what it likes."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(str(self.socket))
        return connection

    def status(self) -> dict:
        return self.ask("status")[1]

    def expect_clean_audit(self) -> None:
        code, audit = self.ask("audit")
        expect(code == 0 and audit["conserved"], f"vitrinectl audit ended with {code}: {audit}")


class Guest(Process):
    """vitrine-guest: front-end and guest driver in one."""

    def __init__(self, directory: pathlib.Path, mode: str, options: tuple[str, ...], name: str):
        command = [BUILD / "vitrine-guest", mode, "--socket", directory / "vhost.sock", "--json", *options]
        super().__init__(directory, name, command)

    def report(self, seconds: float = PATIENCE_SECONDS, code: int = 0) -> dict:
        """Of a guest that ends by itself, and well if `code` is 0."""
        expect_equal(self.finish(seconds), code, f"exit code of {self.name}: {self.output_file.read_text()} {self.errors}")
        return json.loads(self.output_file.read_text())

    def stop(self) -> dict:
        """Of a guest that goes on until it is told to end."""
        self.send(signal.SIGTERM)
        return self.report()


class Lab:
    """One test's directory and processes."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="vitrine-e2e."))
        self.in_memory = pathlib.Path(tempfile.mkdtemp(prefix="vitrine-e2e.", dir="/dev/shm"))
        self.pages = self.in_memory / "pages"  # for --pages-path
        self.processes: list[Process] = []

    def keep(self, process):
        self.processes.append(process)
        return process

    def name(self, program: str) -> str:
        """A program may run several times in one test: vitrine, vitrine.2, ..."""
        count = sum(process.name.split(".")[0] == program for process in self.processes)
        return program if count == 0 else f"{program}.{count + 1}"

    def simulator(self, wire: str, *options: str) -> Simulator:
        return self.keep(Simulator(self.directory, wire, options, self.name("vf_sim")))

    def daemon(self, *options: str, **how) -> Daemon:
        return self.keep(Daemon(self.directory, options, self.name("vitrine"), **how))

    def guest(self, mode: str, *options: str) -> Guest:
        return self.keep(Guest(self.directory, mode, options, self.name("guest")))

    def second_simulator(self) -> Simulator:
        """Beside the first, with sockets in a directory of its own."""
        directory = self.directory / "second"
        directory.mkdir()
        return self.keep(Simulator(directory, "null", (), "vf_sim"))

    def process(self, name: str, command: list, **options) -> Process:
        return self.keep(Process(self.directory, self.name(name), command, **options))

    def expect_no_violations(self) -> None:
        """Of the rules in docs/vf_sim.md, by a driver of ours."""
        for process in self.processes:
            if isinstance(process, Simulator) and process.running():
                violations = process.status().get("violations", {})
                expect(violations == {}, f"the driver broke rules: {violations}")

    def end(self) -> None:
        for process in reversed(self.processes):
            process.send(signal.SIGCONT)
            process.send(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.child.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def show_logs(self) -> None:
        for process in self.processes:
            for line in process.errors.splitlines()[-15:]:
                print(f"    {process.name}: {line}")

    def remove(self) -> None:
        for directory in (self.directory, self.in_memory):
            shutil.rmtree(directory, ignore_errors=True)


class Suite:
    """Runs checks one after the other and prints a line for each."""

    def __init__(self):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        for program in PROGRAMS:
            if not os.access(BUILD / program, os.X_OK):
                print(f"FAIL: {BUILD / program} is not built")
                sys.exit(1)
        self.failures = 0

    def check(self, sentence: str, function: collections.abc.Callable, *arguments, **options) -> None:
        lab = Lab()
        try:
            function(lab, *arguments, **options)
            lab.expect_no_violations()
            print(f"ok: {sentence}", flush=True)
        except Exception as error:  # whatever went wrong in one check, the others are still worth running
            self.failures += 1
            print(f"FAIL: {sentence}: {error}", flush=True)
            if not isinstance(error, Failure):
                traceback.print_exc(file=sys.stdout)
            lab.show_logs()
        finally:
            lab.end()
            lab.remove()

    def finish(self) -> None:
        sys.exit(1 if self.failures else 0)
