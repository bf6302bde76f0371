"""Starts measuring in one process of a session: with the recorder if it can, else with coverage.py.

It runs in any Python that the measured command starts, from a copy in the session's private
directory (`_session.startup_directory`) beside both cores. So it stands alone, nothing in it is
newer than Python 3.8, and no error of its own reaches the application.
"""

import os
import sys

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The session's settings are appended to the copy, see `Settings`: a separate module would cost each
# start another file to find and load.
RECORDER_SINCE: "tuple[int, int] | None" = None
DATA_DIR = CONTEXT = ""
# The settings for coverage.py, where it measures: a `.coveragerc`, and the same as JSON, which
# loses nothing, for versions that read it (`CoverageConfig.serialize`, since 7.10).
RCFILE = SERIALIZED = ""
# Where the project's own plugins may be.
PLUGIN_DIRECTORY = ""
# Set if the rcfile does not have it, as in containers.
DATA_FILE = ""
BRANCH = False
# Whether the rcfile has `dynamic_context = test_function`, which comes before other contexts.
TEST_FUNCTIONS = False
SKIP: "tuple[str, ...]" = ()
KEEP: "frozenset[str]" = frozenset()
# The recorder's argument, for processes with the session's own sources.
SETTLED_BEFORE = 0
# The session's root directory and container. A process with this root is in that container; to find
# that out from its mounts would take as long as to make a recording.
ROOT: "tuple[int, int] | None" = None
CONTAINER = ""
# The image of the containers that these settings are for; a cleared environment does not have it.
IMAGE = ""
# Compiled modules of the recorder. They are appended when this one is compiled, see
# `_session.startup_directory`, so that a process reads one file, and each name in them once.
PARTS: "dict[str, Any]" = {}

_started = False
recorder: "Any" = None
# Set if coverage.py measures with our contexts.
_coverage_requests: "Any" = None


class _CannotMeasureError(Exception):
    """This Python cannot be measured; its text tells why, and what to do."""


def start() -> None:
    """Start measuring this process; if called again, do nothing."""
    global _started  # noqa: PLW0603 - one process, one measuring
    if _started:
        return
    _started = True
    try:
        if not _start_recorder():
            _start_coverage()
    except _CannotMeasureError as error:
        _note(str(error))
    except Exception as error:  # noqa: BLE001 - site would print it on the application's stderr
        _note("%s: %s" % (type(error).__name__, error))


def _start_recorder() -> bool:
    if RECORDER_SINCE is None or sys.version_info < RECORDER_SINCE:
        return False
    global recorder  # noqa: PLW0603 - as above
    load = _load_part if PARTS else None
    recorder = load("_hcoverage_recorder") if load else __import__("_hcoverage_recorder")
    is_here = _is_here()
    started = recorder.start(
        DATA_DIR,
        branch=BRANCH,
        context=CONTEXT,
        container=CONTAINER if is_here else None,
        image=IMAGE,
        skip=SKIP,
        keep=KEEP,
        settled_before=SETTLED_BEFORE if is_here else 0,
        load=load,
    )
    if started and TEST_FUNCTIONS:
        functions = _load_beside("_hcoverage_recorder_test_functions")
        functions.follow(recorder, recorder_contexts())
    elif started and _has_contexts():
        reader, text = _find_context()
        recorder_contexts().follow(recorder, reader, text)
    return bool(started)


def _is_here() -> bool:
    root = os.stat("/")
    return (root.st_dev, root.st_ino) == ROOT


def recorder_contexts() -> "Any":
    """Load the module that attributes recorded lines to contexts."""
    return _load_beside("_hcoverage_recorder_contexts")


def requests() -> "Any":
    """Return the object that attributes requests, for a service's middleware.

    Returns:
        None if this process has no contexts, or is not measured.
    """
    if recorder is not None and recorder.current is not None:
        contexts = recorder_contexts().current
        if contexts is not None:
            return _load_beside("_hcoverage_recorder_requests").of_process(recorder, contexts)
    return _coverage_requests


def _load_beside(name: str) -> "Any":
    directory = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, directory)
    try:
        return __import__(name)
    finally:
        sys.path.remove(directory)


def _load_part(name: str) -> "Any":
    if name not in PARTS:
        return _load_beside(name)
    code = PARTS[name]
    module = type(sys)(name)
    module.__file__ = code.co_filename
    module.__builtins__ = __builtins__  # type: ignore[attr-defined] # one copy for all
    exec(code, module.__dict__)
    return module


def _start_coverage() -> None:
    coverage = _import_coverage()
    if coverage is None:
        return
    if not _has_tracer() and _is_subinterpreter():
        raise _CannotMeasureError("coverage.py does not measure subinterpreters")
    container = "" if ROOT else _name_of_container()
    _tell_image(coverage, container)
    _have_it_start(coverage, container)
    measuring = getattr(coverage.process_startup, "coverage", None)
    if measuring is None:
        return
    import _hcoverage_autosave  # type: ignore[import-not-found]

    # Else the application's `patch = subprocess` has started it: its data is the application's.
    is_ours = measuring.config.data_file.startswith(DATA_DIR)
    is_here = _is_here()
    recording = {
        "directory": DATA_DIR,
        "container": CONTAINER if is_here else None,
        "image": IMAGE,
        "settled_before": SETTLED_BEFORE if is_here else 0,
    }
    # Not if the recorder was tried, and has failed.
    is_asked = is_ours and recorder is None
    _hcoverage_autosave.start(container, recording if is_asked else None, is_ours=is_ours)
    if not is_ours:
        _leave("itself.%s.%d.txt" % (os.uname().nodename, os.getpid()), "")
    if _has_contexts():
        import _hcoverage_coverage_contexts  # type: ignore[import-not-found]

        autosave = getattr(coverage.process_startup, "hcoverage_autosave", None)
        reader, text = _find_context()
        if _hcoverage_coverage_contexts.follow(measuring, reader, text, autosave):
            global _coverage_requests  # noqa: PLW0603 - one process, one measuring
            _coverage_requests = _hcoverage_coverage_contexts.Requests(DATA_DIR, reader, text)


def _tell_image(coverage: "Any", container: str) -> None:
    """Write a note with the container's image: a data file names only the container."""
    image = os.environ.get("HCOVERAGE_IMAGE", IMAGE)
    if image:
        # If a coverage.py of the image has begun before us, its data has another host name, see
        # `IN_CONTAINER` in `_data_directory`.
        has_begun = getattr(coverage.process_startup, "coverage", None) is not None
        host = "in-container-" + os.uname().nodename.replace(".", "_")
        _leave("image.%s.txt" % (host if has_begun else container), image)


def _have_it_start(coverage: "Any", container: str) -> None:
    """Start coverage.py by environment variables, which are set only while it starts."""
    import warnings

    wanted = _told_to_coverage(container)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    if PLUGIN_DIRECTORY:
        sys.path.append(PLUGIN_DIRECTORY)
    try:
        with warnings.catch_warnings():
            # An older coverage.py would warn of options in the rcfile that it does not know.
            warnings.simplefilter("ignore")
            coverage.process_startup()
    finally:
        if PLUGIN_DIRECTORY and PLUGIN_DIRECTORY in sys.path:
            # The last one: the application may have one of its own.
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(PLUGIN_DIRECTORY)]
        _restore_environment(before)


def _restore_environment(before: "dict[str, str | None]") -> None:
    """Restore the application's environment; its children find the session by themselves."""
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    # A subinterpreter reads its environment from C. There coverage.py's own hook would print that
    # it cannot measure the subinterpreter.
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        os.unsetenv(name)


def _name_of_container() -> str:
    # Its host name may be the machine's (`docker run --network host`); its root directory is its
    # own while the container exists.
    from zlib import crc32

    root = os.stat("/")
    try:
        with open("/proc/1/stat", "rb") as file:
            began = file.read().rpartition(b")")[2].split()[19].decode()
    except OSError:
        began = ""
    # Not by a variable: its environment may have been cleared.
    known_by = "%s %s %s" % (root.st_dev, os.uname().nodename, began)
    return "in-%x-%x" % (root.st_ino, crc32(known_by.encode("utf-8", "replace")))


def _told_to_coverage(container: str) -> "dict[str, str]":
    """Return the variables that tell coverage.py how to measure this process."""
    # An existing COVERAGE_FILE is for data that the application measures itself.
    wanted = {"COVERAGE_PROCESS_START": RCFILE, "COVERAGE_FILE": DATA_DIR + "/.coverage"}
    if DATA_FILE:
        wanted["COVERAGE_FILE"] = DATA_FILE + "." + container
    core = ""
    if not _has_tracer():
        # coverage.py's tracer is for another Python; without this, coverage.py would print that.
        core = "pytrace"
    elif _has_contexts() and "COVERAGE_CORE" not in os.environ:
        core = "ctrace"  # `sysmon`, the default since 3.14, has no contexts.
    if core:
        wanted["COVERAGE_CORE"] = core
    if SERIALIZED:
        import base64
        import json

        settings = json.loads(SERIALIZED)
        settings["core"] = core or settings["core"]
        encoded = base64.b64encode(json.dumps(settings).encode())
        wanted["COVERAGE_PROCESS_CONFIG"] = encoded.decode()
    return wanted


def _has_contexts() -> bool:
    return "HCOVERAGE_CONTEXT_FILE" in os.environ or "HCOVERAGE_CONTEXT" in os.environ


def _find_context() -> "tuple[Any, str]":
    """Return a file to follow for this process's context, or None, and its present value."""
    reader = None
    name = os.path.basename(os.getenv("HCOVERAGE_CONTEXT_FILE", ""))
    if name:
        try:
            import _hcoverage_context_reader  # type: ignore[import-not-found]

            reader = _hcoverage_context_reader.ContextReader(os.path.join(DATA_DIR, name))
        except (ImportError, OSError, ValueError):
            pass  # The session is over, or there are no shared mappings here.
    return reader, os.getenv("HCOVERAGE_CONTEXT", "")


def _import_coverage() -> "Any":
    import _hcoverage_other_coverage  # type: ignore[import-not-found]

    other = _hcoverage_other_coverage.find_other()
    if other:
        raise _CannotMeasureError(
            "the program's own module %s has the name of coverage.py, which would measure it: "
            "rename the module, or have the recorder measure it, with Python 3.12 or later" % other
        )
    return _import_installed_coverage() or _import_our_coverage()


def _import_installed_coverage() -> "Any":
    try:
        import coverage
    except ImportError:
        return None
    if getattr(coverage, "__file__", None) is None:
        # A directory of this name, as of reports.
        del sys.modules["coverage"]
        return None
    return coverage


def _import_our_coverage() -> "Any":
    here = os.path.dirname(os.path.abspath(__file__))
    # In containers each version of Python has its own: a newer coverage.py may not run on it.
    directory = os.path.join(here, "lib-%d.%d" % sys.version_info[:2])
    if not os.path.isdir(directory):
        directory = os.path.join(here, "lib")
    has_told = _pass_on(os.path.join(directory, "note.txt"))
    sys.path.append(directory)
    try:
        import coverage
    except Exception as error:
        if has_told:
            return None
        if not os.path.isdir(os.path.join(directory, "coverage")):
            if recorder is not None:
                return None  # It has told why it records nothing.
            raise
        # It is the measuring Python's, and too new for this one's grammar or library.
        told = (*sys.version_info[:2], type(error).__name__, error, sys.executable)
        raise _CannotMeasureError(
            "it has no coverage.py, and hcov's own does not run on Python %d.%d (%s: %s): "
            "`%s -m pip install coverage` installs one that does" % told
        ) from None
    finally:
        sys.path.remove(directory)
    return coverage


def _pass_on(note: str) -> bool:
    """Pass a prepared note on to the data directory; its first line is its name."""
    try:
        with open(note, encoding="utf-8") as file:
            name, _, text = file.read().partition("\n")
    except OSError:
        return False
    _leave(name, text)
    return True


def _has_tracer() -> bool:
    try:
        import coverage.tracer
    except ImportError:
        return False
    return hasattr(coverage.tracer, "CTracer")


def _is_subinterpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = __import__(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() != interpreters.get_main())
    return False


def _note(problem: str) -> None:
    name = f"problem.{os.uname().nodename}.{os.getpid()}.txt"
    _leave(name, f"{sys.executable}: {problem}")


def _leave(name: str, text: str) -> None:
    try:
        with open(os.path.join(DATA_DIR, name), "w") as note:
            note.write(text)
    except OSError:
        pass
