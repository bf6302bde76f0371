"""Attributes what a process runs to the test function that runs it: a part of the recorder.

It is loaded if the rcfile has ``dynamic_context = test_function``, from beside ``recorder`` and
under its name. As with coverage.py's C tracer, the whole process has one context. It begins with a
function whose name begins with ``test``, in any file, unless one runs in this thread already; it
ends when the function's frame returns, yields or raises. coverage.py finds the name by ``getattr``,
which may call the application; this calls nothing of the application's.

CPython calls the callbacks of a tool with a larger number first, and the recorder has the larger
one. So a return is marked in the context that it ends, and a line in the one that has begun.

Like the recorder it is a guest: no lock, no output, and no exception of its own reaches the
application.
"""

from _thread import get_ident

# Functions look builtins up in this copy, which stays as it is when the application replaces some.
if "__hcoverage__" not in __builtins__:  # type: ignore[operator, used-before-def]
    __builtins__ = {**__builtins__, "__hcoverage__": True}  # type: ignore[assignment, dict-item]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any, Final, Optional

# CO_OPTIMIZED, and CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR, see the `inspect` module.
_FUNCTION: "Final" = 1
_GENERATORS: "Final" = 0x20 | 0x80 | 0x200
_ABSENT: "Final[Any]" = object()


class _Example:
    def method(self) -> None:
        pass


_method_type: "Final[Any]" = type(_Example().method)
_slot_type: "Final[Any]" = type(object.__init__)
_value_of: "Final" = dict.get
_mro_of: "Final[Any]" = type.__dict__["__mro__"].__get__
_module_of: "Final[Any]" = type.__dict__["__module__"].__get__
_title_of: "Final[Any]" = type.__dict__["__name__"].__get__
_names_of: "Final[Any]" = type.__dict__["__dict__"].__get__
_attribute_of: "Final" = object.__getattribute__
# `id` is audited: a hook of the application, and that of `hcov affected`, would be called.
_identity: "Final" = object.__hash__


# An error of the interpreter's own (see `recorder.is_ours`): there is no other tool id, and nothing
# is attributed.
_NO_TOOL: "Final" = (1 << 16) + 1


def follow(module: "Any", contexts: "Any") -> None:
    """Attribute what this process runs, from now on.

    Args:
        module: The recorder's module, which records this process.
        contexts: The module `recorder_contexts`.
    """
    monitoring, recorders, recorder = module.current
    module.own_globals(globals())
    recorded = contexts.RecordedContexts(module, comes_again=True)
    tool = module._tool_taker(monitoring)()
    if tool is None or tool > recorders:
        if tool is not None:
            monitoring.free_tool_id(tool)
        recorder.writer.note_loss(OSError(_NO_TOOL, ""))
        return
    functions = _TestFunctions(module, monitoring, tool, recorded.switch)
    for event, callback in functions.callbacks():
        monitoring.register_callback(tool, event, _guarded(callback, recorder.start_fails))
    events = monitoring.events
    monitoring.set_events(tool, events.PY_START | events.PY_UNWIND | events.PY_THROW)


def _guarded(callback: "Callable[..., object]", fails: "Callable[..., object]") -> "Any":
    """Wrap a callback, so that no error of its own reaches the application."""

    def call(code: "CodeType", _offset: int, _value: object = None) -> object:
        try:
            return callback(code)
        except RecursionError:
            return None
        except BaseException as error:  # noqa: BLE001
            return fails(error, None)

    return call


class _TestFunctions:
    """Follows which test function runs in each thread, as coverage.py's tracers do."""

    def __init__(
        self, module: "Any", monitoring: "Any", tool: int, switch: "Callable[[str], None]"
    ) -> None:
        self._monitoring = monitoring
        self._tool = tool
        self._switch = switch
        self._find_frame: Callable[[], Any] = module._frame_finder()
        # By thread, the `id` of the frame that began the context.
        self._began: dict[int, int] = {}

    def callbacks(self) -> "tuple[tuple[int, Callable[[CodeType], object]], ...]":
        """Return the callbacks for the interpreter, by event."""
        events = self._monitoring.events
        return (
            (events.PY_START, self._starts),
            (events.PY_RESUME, self._goes_on),
            (events.PY_THROW, self._goes_on),
            (events.PY_RETURN, self._is_left),
            (events.PY_YIELD, self._is_left),
            (events.PY_UNWIND, self._is_left),
        )

    def _starts(self, code: "CodeType") -> object:
        if not _is_test(code):
            return self._monitoring.DISABLE
        events = self._monitoring.events
        wanted = events.PY_RETURN
        if code.co_flags & _GENERATORS:
            wanted |= events.PY_YIELD | events.PY_RESUME
        try:
            self._monitoring.set_local_events(self._tool, code, wanted)
        except (ValueError, SystemError):
            # Its end would not be seen: the application freed the tool id, or Cython compiled it.
            return None
        self._begin(self._find_frame().f_back.f_back)
        return None

    def _goes_on(self, code: "CodeType") -> None:
        if _is_test(code):
            self._begin(self._find_frame().f_back.f_back)

    def _begin(self, frame: "FrameType") -> None:
        thread = get_ident()
        if thread not in self._began:
            name = _name_of(frame)
            if name is not None:
                self._began[thread] = _identity(frame)
                self._switch(name)

    def _is_left(self, _code: "CodeType") -> None:
        began, thread = self._began, get_ident()
        if thread in began and began[thread] == _identity(self._find_frame().f_back.f_back):
            del began[thread]
            self._switch("")


def _is_test(code: "CodeType") -> bool:
    return code.co_name[:4] == "test" or code.co_name == "runTest"


def _name_of(frame: "FrameType") -> "Optional[str]":
    """Return the name of what runs in a frame, like coverage.py's `qualname_from_frame`."""
    code, names = frame.f_code, frame.f_globals
    name = code.co_name
    if code.co_argcount and code.co_varnames[0] == "self":
        values = frame.f_locals
        method = _name_of_method(values.get("self"), name)
        if type(values) is dict:
            values.clear()  # before Python 3.13 it is a copy, which would keep values alive
        if method is not None:
            return method
    function = _value_of(names, name)
    if function is not None:
        return "%s.%s" % (_attribute_of(function, "__module__"), name)
    if code.co_flags & _FUNCTION and "<locals>" not in code.co_qualname:
        return "%s.%s" % (_value_of(names, "__name__"), code.co_qualname)
    return None


def _name_of_method(owner: "Any", name: str) -> "Optional[str]":
    """Return the full name of an object's method, if it is known without calling anything."""
    kind = type(owner)
    try:
        own = _attribute_of(owner, "__dict__")
    except AttributeError:
        own = {}
    method: Any = own.get(name, _ABSENT) if type(own) is dict else _ABSENT
    if method is _ABSENT:
        method = _look_up(kind, name)
        getter: Any = _look_up(type(method), "__get__")
        # Properties, and descriptors written in Python, are not called; they count as found.
        if type(getter) is _slot_type and property not in _mro_of(type(method)):
            method = getter(method, owner, kind)
    if method is _ABSENT or method is None:
        return None
    if type(method) is not _method_type:
        return "%s.%s.%s" % (_module_of(kind), _title_of(kind), name)
    function = method.__func__
    names = [_attribute_of(function, each) for each in ("__module__", "__qualname__")]
    return "%s.%s" % (names[0], names[1])


def _look_up(kind: type, name: str) -> "Any":
    """Return what a class has under a name."""
    for each in _mro_of(kind):
        found = _names_of(each).get(name, _ABSENT)
        if found is not _ABSENT:
            return found
    return _ABSENT
