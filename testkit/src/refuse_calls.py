"""Runs a program in a sandbox that answers some system calls with an error, as old kernels and sandboxes do.

usage: refuse_calls.py ERRNO NUMBER[,NUMBER...] PROGRAM [ARGUMENT...]
"""
import ctypes
import os
import struct
import sys

LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 22, 38, 2

error, numbers = int(sys.argv[1]), [int(number) for number in sys.argv[2].split(",")]
steps = [(LOAD, 0, 0, 0)]  # the number of the call
for place, number in enumerate(numbers):
    steps.append((JUMP_IF_EQUAL, len(numbers) - place, 0, number))
steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE | error)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


prctl = ctypes.CDLL(None, use_errno=True).prctl
program, none = Program(len(steps), ctypes.addressof(code)), ctypes.c_ulong(0)
if prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), none, none, none) or prctl(
    PR_SET_SECCOMP, ctypes.c_ulong(MODE_FILTER), ctypes.byref(program), none, none
):
    sys.exit(f"no sandbox: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[3], sys.argv[3:])
