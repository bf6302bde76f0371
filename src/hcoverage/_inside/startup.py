"""What the hook runs in a Python that was asked to measure: its session, or coverage.py.

`_session.hook` renders the function into `coverage.pth`, in the manner of coverage.py's own
`pth_file.py`, so it stands alone, and it runs in whatever Python an image has: nothing newer than
Python 3.8.
"""


def start(sessions: str = "") -> None:  # noqa: C901 - it stands alone
    """Start measuring in this process, once, where a session or the environment asks for it.

    Args:
        sessions: The directory where running sessions tell of themselves
        (`_session.hook.announced`).
    """
    import os
    import sys

    def of_ancestor() -> str:
        # For a child that was started with an empty environment. A session is its own process's,
        # named by pid and start time, since a pid comes round again.
        running = set(os.listdir(sessions))
        if running and not os.path.exists("/proc/self/stat"):
            return of_parent(running)
        pid = os.getpid()
        while running and pid > 1:
            with open("/proc/%d/stat" % pid, "rb") as file:
                # The name of the program, in parentheses, may hold anything.
                fields = file.read().rpartition(b")")[2].split()
            name = "%d-%s" % (pid, fields[19].decode())
            if name in running:
                with open(os.path.join(sessions, name)) as file:
                    return file.read()
            pid = int(fields[1])
        return ""

    def of_parent(running: "set[str]") -> str:
        # Elsewhere than on Linux the next ancestor is all that is shown; or it was this process,
        # before `exec`. What is measured has its host and pid in the names of what it leaves.
        host = os.uname().nodename
        names = "%d-", host + ".%d.", ".coverage." + host.replace(".", "_") + ".pid%d."
        known_by = tuple([name % pid for pid in (os.getpid(), os.getppid()) for name in names])
        for name in running:
            with open(os.path.join(sessions, name)) as file:
                session, _, data_directory = file.read().partition("\0")
            if any(each.startswith(known_by) for each in [name, *os.listdir(data_directory)]):
                return session
        return ""

    try:
        session = os.getenv("HCOVERAGE_SESSION")
        asked = os.getenv("COVERAGE_PROCESS_START") or os.getenv("COVERAGE_PROCESS_CONFIG")
        # An empty value says: none, not even an ancestor's.
        if session is None and not asked and os.path.isdir(sessions):
            session = of_ancestor()
        if session:
            sys.path.insert(0, session)
            try:
                import _hcoverage_process  # type: ignore[import-not-found]

                _hcoverage_process.start()
            finally:
                sys.path.remove(session)
        elif asked:
            import coverage

            # Harmless after coverage.py's own a1_coverage.pth, which does the same: it starts once.
            coverage.process_startup()
    except Exception as error:  # noqa: BLE001 - site would print it on the application's stderr
        directory = os.getenv("HCOVERAGE_DATA_DIR") or os.path.dirname(
            os.getenv("COVERAGE_FILE") or ""
        )
        if not directory:
            return
        try:
            name = f"problem.{os.uname().nodename}.{os.getpid()}.txt"
            with open(os.path.join(directory, name), "w") as note:
                note.write(f"{sys.executable}: {type(error).__name__}: {error}")
        except OSError:
            pass
