"""Tracebacks of the library's errors end at the user's line: its frames are removed while the error propagates.

A frame's trace function sees exceptions that reach the frame. When an error is created, one
is set for the user's innermost frame, as a debugger would; it removes the library's frames from the
traceback, and waits for the error at the next user frame that called the library. No other call pays for
this. Nothing is done while a debugger or coverage tool has set a trace function, nor with
`AUTOBATCH_TRACEBACK=full` in the environment.
"""

from __future__ import annotations

import dis
import os
import sys
from types import FrameType, TracebackType
from typing import Any

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
"""What file names of the library in Python begin with."""

LIBRARY = (PACKAGE, "autobatch/record/compiled")
"""What all file names of the library begin with; those of compiled code are as they were where it was built."""

_PASSED = (*LIBRARY, "<frozen importlib.")
"""What is taken out: also what Python runs while the library is imported."""

_LEAVING_WITH = {dis.opmap["PUSH_EXC_INFO"], dis.opmap["WITH_EXCEPT_START"]}
_LEAVING_COMPREHENSION = dis.opmap["SWAP"]
_RETURNING = {code for name, code in dis.opmap.items() if name.startswith(("RETURN_", "YIELD_"))}


def hide_library(error: BaseException, made_in: FrameType) -> None:
    """Take the library's frames out of the traceback of an error that is about to be raised in one of them."""
    if os.environ.get("AUTOBATCH_TRACEBACK") == "full" or not _is_inside(made_in):
        return
    tracer = sys.gettrace()
    if isinstance(tracer, _Hider):
        tracer.error = error  # the one before was caught, and this one says it better
    elif tracer is None:
        hider = _Hider(error, made_in)
        if hider.wait_above(made_in):
            sys.settrace(hider)


def _is_inside(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PASSED)


class _Hider:
    """Waits for an error to come up to the frames of the user's, one after the other."""

    def __init__(self, error: BaseException, made_in: FrameType) -> None:
        self.error: BaseException | None = error
        self.frame: FrameType | None = None
        self.has_come = False
        self.last: FrameType | None = None
        """The innermost frame from which on outwards all are the user's."""
        frame: FrameType | None = made_in
        while frame is not None:
            above = frame.f_back
            if _is_inside(frame) and above is not None and not _is_inside(above):
                self.last = above
            frame = above

    def wait_above(self, frame: FrameType) -> bool:
        """Wait at the next frame of the user's further out; False: all of the library's are further in."""
        above = None if frame is self.last else frame.f_back
        while above is not None and _is_inside(above):
            above = above.f_back
        self.frame, self.has_come = above, False
        if above is not None:
            above.f_trace = self.see
        return above is not None

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """A function is called meanwhile."""

    def see(self, frame: FrameType, event: str, argument: Any) -> Any:
        """What happens in the frame; Python's protocol of trace functions."""
        if event == "exception" and argument[1] is self.error:
            _take_out(argument[2])
            self.has_come = True
            return self.see
        code, at = frame.f_code.co_code, frame.f_lasti
        leaving = code[at] == _LEAVING_COMPREHENSION or set(code[at : at + 4 : 2]) == _LEAVING_WITH
        if event == "line" and self.has_come and leaving:
            return self.see
        frame.f_trace = None
        goes_on = event == "return" and self.has_come and code[at] not in _RETURNING
        if goes_on and self.wait_above(frame):
            return None  # else it was caught
        self.error = self.frame = None
        if sys.gettrace() is self:
            sys.settrace(None)
        return None


def _take_out(traceback: TracebackType) -> None:
    """Take out all frames of the library that follow in a traceback."""
    last = traceback
    following = traceback.tb_next
    while following is not None:
        if not _is_inside(following.tb_frame):
            last.tb_next = last = following
        following = following.tb_next
    last.tb_next = None
