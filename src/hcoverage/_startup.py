"""What the hook runs in a Python that was asked to measure: coverage.py, and no word if it cannot.

`_hook` renders the function into `coverage.pth`, in the manner of coverage.py's own `pth_file.py`,
so it stands alone, and it runs in whatever Python an image has: nothing newer than Python 3.8.
"""


def start() -> None:
    """Start coverage.py in this process, once, where the environment asks for it."""
    import os  # noqa: PLC0415 - rendered into a function body of its own

    if not (os.getenv("COVERAGE_PROCESS_START") or os.getenv("COVERAGE_PROCESS_CONFIG")):
        return
    try:
        import coverage  # noqa: PLC0415 - only where measuring was asked for

        # Harmless after coverage.py's own a1_coverage.pth, which does the same: it starts once.
        coverage.process_startup()
    except Exception as error:  # noqa: BLE001 - site would print it on the application's stderr
        directory = os.getenv("HCOVERAGE_DATA_DIR") or os.path.dirname(  # noqa: PTH120
            os.getenv("COVERAGE_FILE") or ""
        )
        if not directory:
            return
        try:
            name = f"problem.{os.uname().nodename}.{os.getpid()}.txt"
            with open(os.path.join(directory, name), "w") as note:  # noqa: PTH118, PTH123
                note.write(f"{type(error).__name__}: {error}")
        except OSError:
            pass
