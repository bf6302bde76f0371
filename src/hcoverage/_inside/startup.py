"""The hook's code in a Python that is to be measured: starts its session's core, or coverage.py.

`_session.hook` writes the function into `coverage.pth`, like coverage.py's own `pth_file.py`. So it
stands alone. It runs in any Python that an image has, so it uses nothing newer than Python 3.8.
"""


def start(sessions: str = "") -> None:  # noqa: C901 - it stands alone
    """Start measuring in this process, once, if a session or the environment asks for it.

    Args:
        sessions: The directory where running sessions announce themselves
        (`_session.hook.announced`).
    """
    import os
    import sys

    def of_ancestor() -> str:
        # For a child that was started with an empty environment. A session is named by its
        # process's pid and start time, since pids are reused.
        running = set(os.listdir(sessions))
        if running and not os.path.exists("/proc/self/stat"):
            return of_parent(running)
        pid = os.getpid()
        while running and pid > 1:
            with open("/proc/%d/stat" % pid, "rb") as file:
                # The program's name, in parentheses, may contain anything.
                fields = file.read().rpartition(b")")[2].split()
            name = "%d-%s" % (pid, fields[19].decode())
            if name in running:
                with open(os.path.join(sessions, name)) as file:
                    return file.read()
            pid = int(fields[1])
        return ""

    def of_parent(running: "set[str]") -> str:
        # Other systems than Linux show only the parent; or it was this process, before `exec`.
        # A measured process leaves files with its host and pid in their names.
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
        # An empty value means: no session, not even an ancestor's.
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

            # Harmless after coverage.py's own a1_coverage.pth: it starts once.
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
