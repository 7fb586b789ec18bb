"""Becomes a program that gets listening sockets as systemd hands them over: `activate.py FD,FD… PROGRAM ARGUMENT…`."""

import fcntl
import os
import sys

FIRST = 3

numbers = [int(number) for number in sys.argv[1].split(",")]
# First out of the way of the numbers that they get.
copies = [fcntl.fcntl(number, fcntl.F_DUPFD, FIRST + len(numbers)) for number in numbers]
for place, copy in enumerate(copies):
    os.dup2(copy, FIRST + place)
os.closerange(FIRST + len(numbers), 4096)
os.environ["LISTEN_FDS"] = str(len(numbers))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
