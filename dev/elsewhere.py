"""Takes away from a Python what Linux alone has, so that it is as on macOS, where no test runs.

A line of a `.pth` file runs it before anything else; who starts the Python hides /proc. So it is
done by `tests/inside/guest/test_elsewhere.py`. Left as on Linux is what a system call does, and how
errors are numbered.
"""

import os
import sys

_GONE = {
    "posix": (
        "posix_fallocate posix_fadvise sched_getaffinity sched_setaffinity sched_getscheduler"
        " sched_setscheduler sched_getparam sched_setparam sched_rr_get_interval pidfd_open"
        " memfd_create eventfd eventfd_read eventfd_write splice copy_file_range getrandom pipe2"
        " setresuid setresgid getresuid getresgid setns unshare fdatasync getxattr setxattr"
        " listxattr removexattr timerfd_create P_PIDFD O_PATH O_TMPFILE O_DIRECT O_LARGEFILE"
        " O_NOATIME O_RSYNC"
    ),
    "_signal": (
        "sigtimedwait sigwaitinfo pidfd_send_signal SIGPOLL SIGPWR SIGSTKFLT SIGRTMIN SIGRTMAX"
    ),
    "select": "epoll",
    "_socket": "SO_PEERCRED SO_PASSCRED SOCK_CLOEXEC SOCK_NONBLOCK AF_NETLINK AF_PACKET AF_VSOCK",
    "fcntl": (
        "F_SETSIG F_GETSIG F_NOTIFY F_SETLEASE F_GETLEASE F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS"
        " F_GET_SEALS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW"
    ),
    "mmap": "MAP_POPULATE MAP_DENYWRITE MAP_EXECUTABLE MAP_LOCKED",
    "resource": "prlimit",
}
# What this Python was built with is a module that has the system in its name.
_multiarch = getattr(sys.implementation, "_multiarch", "")
os.environ["_PYTHON_SYSCONFIGDATA_NAME"] = f"_sysconfigdata_{sys.abiflags}_linux_{_multiarch}"
sys.platform = "darwin"
for _module, _names in _GONE.items():
    for _name in _names.split():
        vars(__import__(_module)).pop(_name, None)
        vars(os).pop(_name, None)
