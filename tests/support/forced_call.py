"""Makes a thread of another process make a system call, as code that a bug let in would: by ptrace, with root's right."""

import contextlib
import ctypes
import os
import signal
import time

_ATTACH, _DETACH, _SYSCALL, _GETREGS, _SETREGS, _SETOPTIONS = 16, 17, 24, 12, 13, 0x4200
_SYSGOOD = 1  # a stop at a system call is SIGTRAP | 0x80
_SYSCALL_INSTRUCTION_BYTES = 2
_NO_RESTART = 2**64 - 1
_BELOW_RED_ZONE = 1024

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


class _Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
        "ds es fs gs").split()]


def _ptrace(request: int, thread: int, data=None) -> None:
    if _libc.ptrace(request, thread, None, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {request} of {thread}: {os.strerror(number)}")


def _registers(thread: int) -> _Registers:
    registers = _Registers()
    _ptrace(_GETREGS, thread, ctypes.byref(registers))
    return registers


class Killed(Exception):
    """The thread did not survive; the argument is the signal."""


def _wait(thread: int) -> int:
    """The signal that stopped it."""
    _, status = os.waitpid(thread, 0x40000000)  # __WALL: threads, too
    if not os.WIFSTOPPED(status):
        raise Killed(os.WTERMSIG(status))
    return os.WSTOPSIG(status)


@contextlib.contextmanager
def stopped(thread: int):
    """Only this thread, while its process goes on."""
    _ptrace(_ATTACH, thread)
    _wait(thread)
    try:
        yield
    finally:
        _ptrace(_DETACH, thread)


def force_call(thread: int, number: int, *arguments: int | bytes) -> int:
    """Of a thread that sleeps in a system call, which it goes on with afterwards. Returns the result as the kernel gives
    it: -errno. Arguments that are bytes, one at most, are put onto its stack."""
    while True:
        _ptrace(_ATTACH, thread)
        _wait(thread)
        before = _registers(thread)
        if before.orig_rax != _NO_RESTART:
            break
        _ptrace(_DETACH, thread)  # it was running: the next time, perhaps
        time.sleep(0.01)
    _ptrace(_SETOPTIONS, thread, _SYSGOOD)
    forced = _registers(thread)
    # The instruction pointer is behind the instruction that it sleeps in.
    forced.rip -= _SYSCALL_INSTRUCTION_BYTES
    forced.rax, forced.orig_rax = number, _NO_RESTART
    for name, argument in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments):
        if isinstance(argument, bytes):
            place = forced.rsp - _BELOW_RED_ZONE
            with open(f"/proc/{thread}/mem", "r+b", buffering=0) as memory:
                memory.seek(place)
                memory.write(argument + b"\0")
            argument = place
        setattr(forced, name, argument % 2**64)
    _ptrace(_SETREGS, thread, ctypes.byref(forced))
    deliver = 0
    entered = False
    while True:
        _ptrace(_SYSCALL, thread, deliver)
        stop = _wait(thread)
        deliver = 0
        if stop != signal.SIGTRAP | 0x80:
            deliver = stop  # SIGSYS, for its handler
            continue
        now = _registers(thread)
        if now.rip != before.rip:
            continue  # the handler's own
        if not entered and now.orig_rax == number:
            entered = True
            continue
        if now.rax == number:
            continue  # refused by a filter, and put back for the handler of SIGSYS that comes next
        result = ctypes.c_int64(now.rax).value
        # As if nothing had been: the kernel starts the interrupted call again.
        before.rip -= _SYSCALL_INSTRUCTION_BYTES
        before.rax, before.orig_rax = before.orig_rax, _NO_RESTART
        _ptrace(_SETREGS, thread, ctypes.byref(before))
        _ptrace(_DETACH, thread)
        return result
