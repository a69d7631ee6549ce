"""Fibers: an example that forces a value waits, and others go on; when none can, what is pending runs as one batch.

A fiber is a greenlet that calls the function of an `ab.map` for one example after the other, until one waits for a
value. Then another fiber goes on with the examples that have not begun. The fibers of a map, and of the maps inside of
its examples, are resumed by the outermost map, in the greenlet that called it. A map inside of an example runs in the
fiber of that example, which begins its examples itself as long as none waits.

Of an example are its context variables, its place in the random streams and its modes; they are exchanged when fibers
are. Where something would be run differently in an example (another backend, `check_finite`, an open profile), in the
middle of a derivative, in other asyncio tasks and in greenlets of the user's, a value is computed at once instead.

Cost: about 2 µs to wait and go on; a new fiber 10 µs and 6 KB, an idle one none. Without forced values there is
one fiber for each outermost map.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from ..backends import current_backend
from ..base.clocks import profiles
from ..base.errors import AutobatchError, RecordingError, user_error, user_place
from ..base.interrupts import run_whole
from ..base.tasks import current_task
from ..base.tracebacks import hide_library
from ..engine.flush import flush
from ..engine.values import read_together
from ..record.context import checking
from ..record.forced_values import Waiting
from ..record.modes import follow
from ..record.tape import OPEN, Recording, is_under_way, state
from ..record.tensor import RecordedTensor
from .examples import OF_BATCH, Examples, present, put_back

IDLE = 1024
"""Most fibers that a thread keeps for later maps."""

PATIENCE = 64
"""How many values an example that is ended may force in its `finally` blocks, and how often it may go on after them."""

SHALLOW = 64
"""Calls by which the depth of a kept fiber may exceed that of the map that it is used for."""


class FiberMap(Examples):
    """One call of `ab.map`, whose examples may wait for values.

    most: how many examples are under way at a time
    workers: the fibers that run its examples, beside the one that called it
    error: what ended it; caller: the greenlet that called it; own: what is exchanged for that
    """

    def __init__(self, *arguments: Any, at_once: int | None) -> None:
        super().__init__(*arguments)
        self.most = len(self.arguments) if at_once is None else at_once
        self.workers: list[Fiber] = []
        self.error: BaseException | None = None
        self.own = present()
        self.caller = getcurrent()

    def run(self) -> list[Any]:
        """Call the function for all examples; the results, in order."""
        fiber = state.fiber
        outer = fiber if isinstance(fiber, Fiber) and fiber.may_wait() else None
        maps = () if outer is None else outer.maps
        try:
            try:
                if outer is None:
                    _Outermost(self).run()
                else:
                    self.most -= 1
                    outer.maps = (*maps, self)
                    self.work()
                    outer.wait_for(self)
            except BaseException as error:
                self.fail(error)
            finally:
                self._leave(outer, maps)
        except BaseException as error:
            self.fail(error)
        finally:
            self._leave(outer, maps)  # again: Ctrl-C may have cut the first one short
        if outer is not None and outer.is_ending:
            raise GreenletExit
        ended_by, self.error = self.error, None  # no cycle
        if ended_by is None:
            return self.results
        try:
            if isinstance(ended_by, AutobatchError):
                hide_library(ended_by, sys._getframe())
            raise ended_by
        finally:
            del ended_by

    @property
    def wants_worker(self) -> bool:
        """Whether a further example is to begin, while others wait."""
        return self.began < len(self.arguments) and len(self.workers) < self.most and self.error is None

    def work(self) -> None:
        """Begin examples, one after the other."""
        while self.began < len(self.arguments) and self.error is None:
            self.call_next()

    def fail(self, error: BaseException) -> None:
        """Note what ends the map: what came first, but rather Ctrl-C than an error of an example."""
        first = self.error
        if first is None or (isinstance(first, Exception) and not isinstance(error, Exception | GreenletExit)):
            self.error = error
        elif first is not error and isinstance(error, Exception):
            first.add_note(f"an example that was ended by it raised {error!r}")

    def _leave(self, outer: Fiber | None, maps: tuple[FiberMap, ...]) -> None:
        if self.workers:
            run_whole(self._end)
        if outer is not None:
            outer.maps = maps
        follow()

    def _end(self) -> None:
        for worker in self.workers.copy():
            worker.end()


class _Outermost:
    """The map that resumes all fibers: its own, and those of maps inside of its examples."""

    def __init__(self, examples: FiberMap) -> None:
        self.examples = examples
        self.fibers: list[Fiber] = []
        self.has_given_up = False
        self.task = current_task()
        self.modes = _modes()
        self.keeps = getcurrent().parent is None and sys.gettrace() is sys.getprofile() is None

    def run(self) -> None:
        """Run all examples, until one raises."""
        try:
            while self.examples.error is None:
                self._begin_more()
                self._drop_done()
                ready = [fiber for fiber in self.fibers if fiber.is_ready]
                for fiber in ready:
                    if fiber.is_ready:  # else one before it has ended it
                        fiber.go_on()
                if not self.fibers:
                    return
                if not ready:
                    self._flush()
        except BaseException as error:
            self.examples.fail(error)
        finally:
            if self.fibers:
                run_whole(self._end)

    def _end(self) -> None:
        for fiber in self.fibers:
            fiber.end()
        self._drop_done()

    def _begin_more(self) -> None:
        while self.examples.wants_worker:
            self._begin(self.examples)
        for fiber in self.fibers:  # new ones join the list
            for examples in fiber.maps:
                while examples.wants_worker:
                    self._begin(examples)

    def _begin(self, examples: FiberMap) -> None:
        fiber = _idle_fiber() if self.keeps else Fiber()
        fiber.take(examples, self)
        self.fibers.append(fiber)
        examples.workers.append(fiber)
        fiber.go_on()

    def _drop_done(self) -> None:
        fibers, self.fibers = self.fibers, []
        for fiber in fibers:
            if not fiber.is_done:
                self.fibers.append(fiber)
            elif fiber.depth >= 0 and not fiber.dead and len(_idle.fibers) < IDLE:
                _idle.fibers.append(fiber)

    def _flush(self) -> None:
        waiting = [fiber for fiber in self.fibers if fiber.tape is not None]
        tape = waiting[0].tape
        assert tape is not None
        try:
            flush(tape, None, waiting=Waiting([fiber.place for fiber in waiting], len(self.fibers)))
            read_together([t for fiber in waiting for t in fiber.wanted if t._tape is tape])
        except Exception as error:
            error.add_note(OF_BATCH)
            for fiber in waiting:
                fiber.error = error


class Fiber(greenlet):
    """A greenlet that runs examples.

    examples: whose they are; maps: those whose examples it is inside of; outermost: what resumes it
    tape: the recording that it waits for; wanted: values of it; place: the user's line
    inner: the map whose other fibers it waits for
    caller: the greenlet that called that map
    own: what is exchanged in `state` for what belongs to its example
    error: with which the run that it waited for failed
    depth: of the calls in which it began, if it serves later maps, too
    """

    examples: FiberMap | None = None
    outermost: _Outermost
    maps: tuple[FiberMap, ...] = ()
    tape: Recording | None = None
    wanted: Sequence[RecordedTensor] = ()
    inner: FiberMap | None = None
    place: tuple[CodeType | None, int] = None, 0
    error: Exception | None = None
    caller: greenlet | None = None
    own: tuple[Any, ...] = ()
    forced_at_end = 0
    depth = -1

    def take(self, examples: FiberMap, outermost: _Outermost) -> None:
        """Prepare to run examples."""
        self.parent = getcurrent()
        self.outermost, self.examples, self.maps = outermost, examples, (examples,)
        self.caller = examples.caller
        *own, _, dtype = examples.own
        self.own = (*own, self, dtype)

    def run(self) -> None:
        """What the greenlet does."""
        while True:
            examples = self.examples
            assert examples is not None
            try:
                examples.work()
            except BaseException as error:
                examples.fail(error)
            self._release()
            if self.depth < 0:
                return
            del examples
            self.parent.switch()

    def _release(self) -> None:
        assert self.examples is not None
        if self in self.examples.workers:
            self.examples.workers.remove(self)
        del self.outermost
        self.examples, self.caller, self.maps, self.own, self.error, self.forced_at_end = None, None, (), (), None, 0

    def go_on(self, *thrown: Any) -> None:
        """Run until it waits or has no more examples."""
        outer = present()
        try:
            put_back(self.own)
            if thrown:
                self.throw(*thrown)
            else:
                self.switch()
        finally:
            self.own = present()
            put_back(outer)
        if not self.is_done and self.tape is None and self.inner is None:
            self._give_up()

    @property
    def is_done(self) -> bool:
        """Whether it has no example."""
        return self.examples is None or self.dead

    @property
    def is_ready(self) -> bool:
        """Whether what it waits for is there, or will never be."""
        tape = self.tape
        if tape is not None:
            return tape.state != OPEN or self.error is not None or not is_under_way(tape) or self.is_ending
        return self.inner is not None and (not self.inner.workers or self.is_ending)

    @property
    def is_ending(self) -> bool:
        """Whether its example is to end, because another one has raised."""
        # A list costs less than `any`, and this is asked several times for each value.
        return self.outermost.examples.error is not None or bool([m for m in self.maps if m.error is not None])

    @property
    def n_under_way(self) -> int:
        """How many fibers are inside of an example."""
        return len(self.outermost.fibers)

    def may_wait(self) -> bool:
        """Whether this greenlet runs, and what it records is run as the outermost map runs it."""
        outermost = self.outermost
        return (
            getcurrent() is self
            and not state.unbatched
            and current_task() == outermost.task
            and _modes() == outermost.modes
            and not self.is_ending
        )

    def wait(self, tape: Recording, wanted: Sequence[RecordedTensor]) -> bool:
        """Let other examples go on until a recording has run, of which values are wanted; False where it is to run
        at once."""
        if self.is_ending and getcurrent() is self:
            self._be_patient()
        if tape is not state.tape or tape.unbatched or tape.sweeps or not self.may_wait():
            return False
        self.place = user_place()
        self.wanted = wanted
        self._wait(tape, None)
        error = self.error
        if error is not None:
            raise error
        return True

    def wait_for(self, inner: FiberMap) -> None:
        """Let other examples go on until those of a map inside of this one have ended."""
        while inner.workers and inner.error is None:
            self._wait(None, inner)

    def _wait(self, tape: Recording | None, inner: FiberMap | None) -> None:
        self.tape, self.inner, self.error = tape, inner, None
        try:
            self.parent.switch()
        finally:
            self.tape = self.inner = None
            self.wanted = ()
            follow()
        if self.is_ending:
            raise GreenletExit

    def _be_patient(self) -> None:
        """Let an example that is to end force values; not without end."""
        self.forced_at_end += 1
        if self.forced_at_end > PATIENCE:
            if self.forced_at_end > 2 * PATIENCE:
                self.parent.switch()
            raise GreenletExit

    def end(self) -> None:
        """End the example: its `finally` blocks run."""
        if not self.is_done:
            self.parent = getcurrent()
            self.go_on(GreenletExit)
        if self.examples is not None:
            self._release()

    def _give_up(self) -> None:
        """Leave an example that cannot be ended where it is."""
        _never_ended.append(self)
        self.depth = -1
        outermost, map = self.outermost, self.outermost.examples
        if not outermost.has_given_up:
            what = "map: an example that was to end, because another one raised, goes on and forces values"
            error = user_error(RecordingError, what, repair="catch Exception, not BaseException")
            error.__cause__, map.error = map.error, error
            outermost.has_given_up = True
        self._release()


_never_ended: list[Fiber] = []
"""Dropped, they would go on."""


def _modes() -> tuple[Any, ...]:
    return checking.get(), profiles.get(), current_backend()


class _Idle(threading.local):
    def __init__(self) -> None:
        self.fibers: list[Fiber] = []


_idle = _Idle()


def _idle_fiber() -> Fiber:
    """A fiber that served an earlier map, or a new one. Its calls count from the depth in which it began."""
    while _idle.fibers:
        fiber = _idle.fibers.pop()
        try:
            sys._getframe(max(fiber.depth - SHALLOW, 0))
        except ValueError:
            continue
        return fiber
    fiber = Fiber()
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        fiber.depth += 1
        frame = frame.f_back
    return fiber
