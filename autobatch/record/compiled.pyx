# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, binding=True
"""The compiled recorder: tensors, the lists of a recording, and the usual path of ops, in C.

It does what `interpreted` does in Python, for what is written most often: ops on tensors of the open recording, numbers
and shared values whose signature is known. All else goes to the Python that calls it, and that it calls.

A tensor that dies says so to its recording, which therefore knows which of its values are referenced. No Python runs
while a node is written, so that no exception can interrupt it.
"""

cimport cython
from cpython cimport array
from cpython.dict cimport PyDict_GetItem
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact, PyLong_FromLong
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

import array as _array
import math
import weakref

cdef extern from *:
    """
    #if defined(_MSC_VER)
    static __declspec(thread) PyObject *open_recording = NULL;
    #else
    static _Thread_local PyObject *open_recording = NULL;
    #endif
    static PyObject *new_object(PyObject *type, PyObject *nothing) {
        return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, nothing, NULL);
    }
    """
    PyObject *open_recording
    object new_object(object type, object nothing)

cdef extern from "Python.h":
    ctypedef struct PyFrameObject:
        pass
    PyFrameObject *PyEval_GetFrame()
    ctypedef struct PyCodeObject:
        pass
    PyCodeObject *PyFrame_GetCode(PyFrameObject *frame)
    PyFrameObject *PyFrame_GetBack(PyFrameObject *frame)
    int PyFrame_GetLasti(PyFrameObject *frame)
    int Py_REFCNT(PyObject *x)
    PyTypeObject *Py_TYPE(object x)

WRITING = math.inf
"""The count of a recording in which a node is being written: it was interrupted if anyone else sees it."""

GUARDED = -1 << 60
"""The room of a recording while an asyncio task is inside of `no_grad`: every op asks whether its task runs."""

cdef enum:
    MOST = 24  # operands of a node on the paths that do not take lists

cdef object _nothing = ()
cdef object _tensor_class = None
cdef object _shared_classes = frozenset()
cdef object _of_library = None
cdef list _switched = [0]
cdef object _learned = None
cdef object _local = None
cdef object _user_place = None


def install(tensor_class, shared_classes, of_library, switched, learned, local, user_place):
    """Take what is defined in modules that need this one: see `record/choice.py`."""
    global _tensor_class, _shared_classes, _of_library, _switched, _learned, _local, _user_place
    _tensor_class, _shared_classes, _of_library = tensor_class, shared_classes, of_library
    _switched, _learned, _local, _user_place = switched, learned, local, user_place


cdef Door _add, _sub, _mul, _div, _matmul
cdef Door _add_reflected, _sub_reflected, _mul_reflected, _div_reflected, _matmul_reflected


def install_operators(ops, tensor):
    """Let the operators of tensors be these ops (add, sub, mul, div, matmul), and the methods of a class where the
    usual path ends."""
    global _add, _sub, _mul, _div, _matmul
    global _add_reflected, _sub_reflected, _mul_reflected, _div_reflected, _matmul_reflected
    add, sub, mul, div, matmul = ops
    _add, _add_reflected = Door(add, tensor.__add__), Door(add, tensor.__radd__)
    _sub, _sub_reflected = Door(sub, tensor.__sub__), Door(sub, tensor.__rsub__)
    _mul, _mul_reflected = Door(mul, tensor.__mul__), Door(mul, tensor.__rmul__)
    _div, _div_reflected = Door(div, tensor.__truediv__), Door(div, tensor.__rtruediv__)
    _matmul, _matmul_reflected = Door(matmul, tensor.__matmul__), Door(matmul, tensor.__rmatmul__)


def set_open(recording):
    """What this thread records from now on, or None; the caller keeps it alive."""
    global open_recording
    open_recording = NULL if recording is None else <PyObject *>recording


def get_open():
    """What `set_open` was given last in this thread."""
    return None if open_recording == NULL else <object>open_recording


# Tensors.


@cython.no_gc
cdef class Value:
    """What `RecordedTensor` has: its recording, its number there, its type, and its array once it was computed."""

    cdef public Lists _tape
    cdef public long _id
    cdef public object _type
    cdef public object _value
    cdef object __weakref__

    def __add__(self, other):
        return _binary(_add, self, other)

    def __radd__(self, other):
        return _reflected(_add_reflected, self, other)

    def __sub__(self, other):
        return _binary(_sub, self, other)

    def __rsub__(self, other):
        return _reflected(_sub_reflected, self, other)

    def __mul__(self, other):
        return _binary(_mul, self, other)

    def __rmul__(self, other):
        return _reflected(_mul_reflected, self, other)

    def __truediv__(self, other):
        return _binary(_div, self, other)

    def __rtruediv__(self, other):
        return _div_reflected.slow(self, other)

    def __matmul__(self, other):
        return _binary(_matmul, self, other)

    def __rmatmul__(self, other):
        return _matmul_reflected.slow(self, other)

    def __dealloc__(self):
        cdef Lists tape = self._tape
        if tape is not None and 0 <= self._id < tape.capacity and tape.living[self._id] == <PyObject *>self:
            tape.living[self._id] = NULL


cdef inline Value _new_tensor(Lists tape, long id, object type):
    cdef Value t = <Value>new_object(_tensor_class, _nothing)
    t._tape = tape
    t._id = id
    t._type = type
    return t


# The lists of a recording.


cdef class Lists:
    """The growing arrays of a recording, and which of its tensors live.

    stream, ints, floats, places, beyond: as in `Recording`
    count: how many values there are, or WRITING
    mode: 1 where constants are recorded, plus 2 where the default dtype is float64
    """

    cdef public array.array stream, ints, floats, places, beyond
    cdef public object user_code
    cdef public list codes
    cdef public dict cache, imports
    cdef public long serial
    cdef public int mode
    cdef public bint is_aside
    cdef long n
    cdef bint guarded
    cdef long capacity
    cdef PyObject **living
    cdef PyObject **types
    cdef list others

    def __cinit__(self):
        self.stream, self.places, self.beyond = _array.array("i"), _array.array("i"), _array.array("i")
        self.ints, self.floats = _array.array("q"), _array.array("d")
        self.others = []
        self.codes = []
        self.cache, self.imports = {}, {}

    def __dealloc__(self):
        global open_recording
        if open_recording == <PyObject *>self:  # its thread ends
            open_recording = NULL
        self._release()

    cdef void _release(self) noexcept:
        free(self.living)
        free(self.types)
        self.living = self.types = NULL
        self.capacity = 0

    @property
    def count(self):
        return WRITING if self.n < 0 else self.n

    @count.setter
    def count(self, value):
        self.n = -1 if value is WRITING else value

    @property
    def room(self):
        """`GUARDED`, or any other number where nothing has to be asked."""
        return GUARDED if self.guarded else 0

    @room.setter
    def room(self, value):
        self.guarded = value == GUARDED

    cdef int _reserve(self, long n) except -1:
        """Make room for values before number n."""
        cdef long capacity = self.capacity
        cdef PyObject **more
        if n <= capacity:
            return 0
        capacity = max(256, n, 2 * capacity)
        more = <PyObject **>realloc(self.living, capacity * sizeof(PyObject *))
        if more == NULL:
            raise MemoryError()
        self.living = more
        more = <PyObject **>realloc(self.types, capacity * sizeof(PyObject *))
        if more == NULL:
            raise MemoryError()
        self.types = more
        memset(self.living + self.capacity, 0, (capacity - self.capacity) * sizeof(PyObject *))
        memset(self.types + self.capacity, 0, (capacity - self.capacity) * sizeof(PyObject *))
        self.capacity = capacity
        return 0

    def lengthen(self, id):
        """Nothing has to be made ahead."""

    def skip_to(self, id):
        """Values before this one were replayed."""
        self._reserve(id)

    def adopt(self, tensors):
        """Take tensors of replayed values, which were made elsewhere."""
        cdef Value t
        for t in tensors:
            self._reserve(t._id + 1)
            if self.living[t._id] == NULL:
                self.living[t._id] = <PyObject *>t
                self.types[t._id] = <PyObject *>t._type
            elif self.living[t._id] != <PyObject *>t:
                self.others.append(weakref.ref(t))

    cpdef Value tensor(self, long id):
        """The tensor of a value, made again where it has died; of those that were replayed only results have one."""
        cdef Value t
        cdef PyObject *known
        if not (0 <= id < self.capacity and self.types[id] != NULL):
            raise IndexError(id)
        known = self.living[id]
        if known != NULL and Py_REFCNT(known) > 0:
            return <Value>known
        t = _new_tensor(self, id, <object>self.types[id])
        self.living[id] = <PyObject *>t
        return t

    def type_of(self, long id):
        """Its type."""
        if not (0 <= id < self.capacity and self.types[id] != NULL):
            raise IndexError(id)
        return <object>self.types[id]

    def live_tensors(self):
        """The tensors of this recording's values that live."""
        return self._living(0)

    def held_tensors(self, first=0):
        """The tensors that are referenced, of values from one on and replayed ones; also which values these are."""
        found = self._living(first)
        return found, [t._id for t in found]

    cdef list _living(self, long first):
        cdef list found = []
        cdef long k
        for k in range(first, min(self.n, self.capacity)):
            if self.living[k] != NULL and Py_REFCNT(self.living[k]) > 0:
                found.append(<object>self.living[k])
        for reference in self.others:
            t = reference()
            if t is not None:
                found.append(t)
        return found

    def has_room(self, id):
        """There always is."""
        return True

    def unguard(self):
        """Ops need no longer ask whether their task runs."""
        self.guarded = False

    def drop(self):
        """Let go of what has become arrays."""
        self.stream, self.beyond, self.ints, self.floats = self.stream[:0], self.beyond[:0], self.ints[:0], self.floats[:0]

    def drop_places(self):
        """Let go of what leads from a value to its line."""
        self.places, self.beyond = self.places[:0], self.beyond[:0]

    def leave_tensors(self, kept):
        """The recording no longer asks which of its tensors live."""
        self._release()
        self.others = []


# Writing a node.


cdef int _place(Lists tape) except -2:
    """The instruction of the innermost frame outside the library; its code is noted."""
    cdef PyFrameObject *frame = PyEval_GetFrame()
    cdef PyObject *code
    if frame != NULL:
        code = <PyObject *>PyFrame_GetCode(frame)
        Py_DECREF(<object>code)  # the frame keeps it
        if code == <PyObject *>tape.user_code:
            return PyFrame_GetLasti(frame)
    return _outer_place(tape, frame)


cdef int _outer_place(Lists tape, PyFrameObject *frame) except -2:
    cdef PyFrameObject *outer
    cdef PyObject *code
    cdef PyObject *known
    cdef bint is_own = False
    cdef int instruction
    while frame != NULL:
        code = <PyObject *>PyFrame_GetCode(frame)
        Py_DECREF(<object>code)
        if code != <PyObject *>tape.user_code:
            file = (<object>code).co_filename
            known = PyDict_GetItem(_of_library, file)
            if (_of_library[file] if known == NULL else <object>known) is True:
                outer = PyFrame_GetBack(frame)
                if is_own:
                    Py_DECREF(<object><PyObject *>frame)
                frame, is_own = outer, True
                continue
            _note(tape, <object>code)
        instruction = PyFrame_GetLasti(frame)
        if is_own:
            Py_DECREF(<object><PyObject *>frame)
        return instruction
    place = _user_place()
    if place[0] is not tape.user_code or place[0] is None:
        _note(tape, place[0])
    return place[1]


cdef inline int _note(Lists tape, object code) except -1:
    tape.codes.append((len(tape.places), code))
    tape.user_code = code
    return 0


cdef inline int _push(array.array to, int32_t x) except -1:
    cdef Py_ssize_t n = to.ob_size
    array.resize_smart(to, n + 1)
    to.data.as_ints[n] = x
    return 0


cdef inline int _push_int(array.array to, int64_t x) except -1:
    cdef Py_ssize_t n = to.ob_size
    array.resize_smart(to, n + 1)
    to.data.as_longlongs[n] = x
    return 0


cdef inline int _push_float(array.array to, double x) except -1:
    cdef Py_ssize_t n = to.ob_size
    array.resize_smart(to, n + 1)
    to.data.as_doubles[n] = x
    return 0


cdef inline int _begin(Lists tape) except -1:
    """Raise where nothing can be written: a write was interrupted, or the task that runs is another one."""
    if tape.n < 0 or tape.guarded:
        tape.more_tensors(tape.count)
    return 0


cdef Value _write_one(Lists tape, int number, object type, int32_t *operands, int n_operands):
    """A node of one result, whose data was checked; the caller adds them when it has been written."""
    cdef Py_ssize_t n
    cdef int k
    cdef int32_t *to
    cdef Value t
    cdef int place = _place(tape)
    tape._reserve(tape.n + 1)
    t = _new_tensor(tape, tape.n, type)
    n = tape.stream.ob_size
    array.resize_smart(tape.stream, n + 1 + n_operands)
    to = <int32_t *>tape.stream.data.as_ints + n
    to[0] = number
    for k in range(n_operands):
        to[k + 1] = operands[k]
    _push(tape.places, place)
    tape.living[tape.n] = <PyObject *>t
    tape.types[tape.n] = <PyObject *>type
    tape.n += 1
    return t


def write(Lists tape, int number, operands, types, place=None, ints=(), floats=(), array=None):
    """Write one node, whole or not at all; the tensors of its results. See `interpreted.write`."""
    cdef list made = []
    cdef Value t
    cdef long first
    _begin(tape)
    first = tape.n
    tape._reserve(first + len(types))
    if place is None:
        instruction = _place(tape)
    else:
        code, instruction = place
        if code is not tape.user_code:
            _note(tape, code)
    added = _array.array("i", (number, *operands))
    more_ints, more_floats = _array.array("q", ints), _array.array("d", floats)
    for type in types:
        made.append(_new_tensor(tape, first + len(made), type))
    # From here on nothing fails but for want of memory.
    if array is not None:
        if isinstance(array, tuple):
            tape.linked += array
        else:
            tape.payloads.append((first, array))
    tape.stream.extend(added)
    tape.ints.extend(more_ints)
    tape.floats.extend(more_floats)
    _push(tape.places, instruction)
    for k in range(first, first + len(made) - 1):
        _push(tape.beyond, k)
    for t in made:
        tape.living[t._id] = <PyObject *>t
        tape.types[t._id] = <PyObject *>t._type
    tape.n = first + len(made)
    return made


def write_known(Lists tape, known, operands, frame=None):
    """Write a node of one result whose signature's number and type this tape knows."""
    cdef array.array added
    cdef int number
    _begin(tape)
    number = known[0]
    added = _array.array("i", operands)
    return _write_one(tape, number, known[1], <int32_t *>added.data.as_ints, <int>added.ob_size)


# Ops whose signature is known.


cdef struct Known:
    PyObject *first  # type of the first operand
    PyObject *second  # type of the second one; NULL: there is none; 1: a number on the right; 2: on the left
    int mode
    int number  # of the signature in the recording `serial`
    long serial
    PyObject *type
    PyObject *signature  # owned

cdef PyObject *_RIGHT = <PyObject *><uintptr_t>1
cdef PyObject *_LEFT = <PyObject *><uintptr_t>2
cdef enum:
    _FULL = 4096


cdef class Door:
    """The signatures that an op has on operands of some types, in all recordings.

    slow: the function that is called for all else
    """

    cdef object op, slow
    cdef Known *table
    cdef long size, used
    cdef long switched
    cdef Known once

    def __init__(self, op, slow):
        self.op, self.slow = op, slow
        self.switched = -1

    def __dealloc__(self):
        self._clear()

    cdef void _clear(self) noexcept:
        cdef long k
        for k in range(self.size):
            Py_XDECREF(self.table[k].signature)
        free(self.table)
        self.table = NULL
        self.size = self.used = 0

    cdef Known *_at(self, PyObject *first, PyObject *second, int mode) noexcept:
        """Where these operands stand, or would."""
        cdef uintptr_t h = (<uintptr_t>first >> 4) * 31 + (<uintptr_t>second >> 4) * 17 + mode
        cdef long k = <long>((h ^ (h >> 7)) & <uintptr_t>(self.size - 1))
        cdef Known *known
        while True:
            known = &self.table[k]
            if known.first == NULL or (known.first == first and known.second == second and known.mode == mode):
                return known
            k = (k + 1) & (self.size - 1)

    cdef int _grow(self) except -1:
        cdef Known *old = self.table
        cdef long n = self.size
        cdef long k
        if self.used >= _FULL:
            self._clear()
            old, n = NULL, 0
        self.table = <Known *>calloc(max(16, 2 * n), sizeof(Known))
        if self.table == NULL:
            self.table = old
            raise MemoryError()
        self.size = max(16, 2 * n)
        for k in range(n):
            if old[k].first != NULL:
                self._at(old[k].first, old[k].second, old[k].mode)[0] = old[k]
        free(old)
        return 0

    cdef Known *find(self, Lists tape, PyObject *first, PyObject *second) except? NULL:
        """What is known of these operands, with the number that the signature has in this recording; else NULL."""
        cdef Known *known
        cdef long switched = <object>PyList_GET_ITEM(_switched, 0)
        if switched != self.switched:  # some signatures have no lengths any more
            self._clear()
            self.switched = switched
        if self.size:
            known = self._at(first, second, tape.mode)
            if known.first != NULL:
                if known.serial != tape.serial:
                    number = tape.signature_number(<object>known.signature)
                    known = self._at(first, second, tape.mode)
                    known.number, known.serial = number, tape.serial
                return known
        return self._learn(tape, first, second)

    cdef Known *_learn(self, Lists tape, PyObject *first, PyObject *second) except? NULL:
        cdef Known *known
        if second == NULL:
            key = (self.op, (), <object>first)
        elif second == _RIGHT:
            key = (self.op, (), <object>first, "f")
        elif second == _LEFT:
            key = (self.op, (), "f", <object>first)
        else:
            key = (self.op, (), <object>first, <object>second)
        hit = _learned(tape, key)
        if hit is None:
            hit = tape.cache.get(key)
            if hit is None:
                return NULL
            known = &self.once
            known.number, known.type = hit[0], <PyObject *>hit[1]
            return known
        if 2 * self.used >= self.size:
            self._grow()
        known = self._at(first, second, tape.mode)
        if known.first == NULL:
            self.used += 1
        signature = tape.signatures[hit[0]]
        Py_INCREF(signature)
        Py_XDECREF(known.signature)
        known.signature = <PyObject *>signature
        known.first, known.second, known.mode = first, second, tape.mode
        known.number, known.serial, known.type = hit[0], tape.serial, <PyObject *>hit[1]
        return known


cdef inline Value _here(Value x, Lists tape):
    """The tensor of this recording that stands for one of an earlier one; else the same tensor."""
    if x._tape is tape or x._tape is None or tape.is_aside:
        return x
    known = tape.imports.get((x._tape.serial, x._id))
    return _local(x, tape) if known is None else tape.tensor(known)


def here(Value x, Lists tape):
    """See `links.local`."""
    return _here(x, tape)


cdef inline bint _is_tensor(object x):
    return <PyObject *>Py_TYPE(x) == <PyObject *>_tensor_class


cdef object _unary(Door door, x):
    cdef Lists tape
    cdef Value t
    cdef Known *known
    cdef int32_t id
    if open_recording != NULL and _is_tensor(x):
        tape = <Lists>open_recording
        t = _here(<Value>x, tape)
        if t._tape is tape:
            known = door.find(tape, <PyObject *>t._type, NULL)
            if known != NULL:
                _begin(tape)
                id = <int32_t>t._id
                return _write_one(tape, known.number, <object>known.type, &id, 1)
    return door.slow(x)


cdef object _binary(Door door, Value x, y):
    cdef Lists tape
    cdef Value t, u
    cdef Known *known
    cdef int32_t ids[2]
    if open_recording != NULL:
        tape = <Lists>open_recording
        t = _here(x, tape)
        if t._tape is tape:
            ids[0] = <int32_t>t._id
            if _is_tensor(y):
                u = _here(<Value>y, tape)
                if u._tape is tape:
                    known = door.find(tape, <PyObject *>t._type, <PyObject *>u._type)
                    if known != NULL:
                        _begin(tape)
                        ids[1] = <int32_t>u._id
                        return _write_one(tape, known.number, <object>known.type, ids, 2)
            elif PyFloat_CheckExact(y):
                known = door.find(tape, <PyObject *>t._type, _RIGHT)
                if known != NULL:
                    return _with_number(tape, known, ids, PyFloat_AS_DOUBLE(y))
            elif type(y) in _shared_classes:
                hit = _with_shared(tape, (door.op, (), t._type, y))
                if hit is not None:
                    _begin(tape)
                    return _write_one(tape, hit[0], hit[1], ids, 1)
    return door.slow(x, y)


cdef object _reflected(Door door, Value x, y):
    """y op x."""
    cdef Lists tape
    cdef Value t
    cdef Known *known
    cdef int32_t id
    if open_recording != NULL and PyFloat_CheckExact(y):
        tape = <Lists>open_recording
        t = _here(x, tape)
        if t._tape is tape:
            known = door.find(tape, <PyObject *>t._type, _LEFT)
            if known != NULL:
                id = <int32_t>t._id
                return _with_number(tape, known, &id, PyFloat_AS_DOUBLE(y))
    return door.slow(x, y)


cdef inline object _with_shared(Lists tape, tuple key):
    cdef PyObject *known = PyDict_GetItem(tape.cache, key)
    return _learned(tape, key) if known == NULL else <object>known


cdef inline Value _with_number(Lists tape, Known *known, int32_t *id, double number):
    cdef Value t
    _begin(tape)
    t = _write_one(tape, known.number, <object>known.type, id, 1)
    _push_float(tape.floats, number)
    return t


def unary(op, slow):
    """The function of an op on one tensor."""
    cdef Door door = Door(op, slow)

    def fast(x):
        return _unary(door, x)

    return fast


def shared_left(op, slow):
    """The method of a shared value for an operator with a tensor on the right."""
    cdef Door door = Door(op, slow)

    def fast(self, other):
        cdef Lists tape
        cdef Value t
        cdef int32_t id
        if open_recording != NULL and _is_tensor(other):
            tape = <Lists>open_recording
            t = _here(<Value>other, tape)
            if t._tape is tape:
                hit = _with_shared(tape, (door.op, (), self, t._type))
                if hit is not None:
                    _begin(tape)
                    id = <int32_t>t._id
                    return _write_one(tape, hit[0], hit[1], &id, 1)
        return door.slow(self, other)

    return fast


def labelled(op, slow):
    """The function of an op on a tensor and an integer that counts along its only axis."""
    cdef Door door = Door(op, slow)

    def fast(logits, index, *more, **options):
        cdef Lists tape
        cdef Value t
        cdef int32_t id
        if open_recording != NULL and _is_tensor(logits) and PyLong_CheckExact(index) and not more and not options:
            tape = <Lists>open_recording
            t = _here(<Value>logits, tape)
            if t._tape is tape:
                hit = _with_shared(tape, (door.op, (), t._type, "i"))
                if hit is not None and 0 <= index < t._type.shape[0]:
                    _begin(tape)
                    id = <int32_t>t._id
                    t = _write_one(tape, hit[0], hit[1], &id, 1)
                    _push_int(tape.ints, index)
                    return t
        return door.slow(logits, index, *more, **options)

    return fast


def row(slow):
    """The method of a shared table for the row at an index."""

    def fast(self, index):
        cdef Lists tape
        cdef PyObject *hit
        cdef Value t
        cdef int64_t k
        cdef int overflows = 0
        if open_recording != NULL and PyLong_CheckExact(index):
            tape = <Lists>open_recording
            hit = PyDict_GetItem(tape.cache, self) if tape.n >= 0 and not tape.is_aside else NULL
            if hit != NULL:
                known = <tuple>hit
                k = PyLong_AsLongLongAndOverflow(index, &overflows)
                if not overflows and 0 <= k < known[2]:
                    _begin(tape)
                    t = _write_one(tape, known[0], known[1], NULL, 0)
                    _push_int(tape.ints, k)
                    return t
        return slow(self, index)

    return fast


def record_known(op, tuple operands, attrs):
    """Write an op whose signature is known, on tensors, shared values and numbers; None where it is another case."""
    cdef Lists tape
    cdef Value t
    cdef Py_ssize_t n = PyTuple_GET_SIZE(operands)
    cdef int32_t ids[MOST]
    cdef int64_t ints[MOST]
    cdef double floats[MOST]
    cdef int n_ids = 0, n_ints = 0, n_floats = 0, overflows = 0
    cdef Py_ssize_t k
    cdef int64_t i
    if open_recording == NULL or n > MOST:
        return None
    tape = <Lists>open_recording
    key = [op, attrs]
    for k in range(n):
        x = <object>PyTuple_GET_ITEM(operands, k)
        if _is_tensor(x):
            t = _here(<Value>x, tape)
            if t._tape is not tape:
                return None
            ids[n_ids] = <int32_t>t._id
            n_ids += 1
            key.append(t._type)
        elif PyFloat_CheckExact(x):
            floats[n_floats] = PyFloat_AS_DOUBLE(x)
            n_floats += 1
            key.append("f")
        elif PyLong_CheckExact(x):
            i = PyLong_AsLongLongAndOverflow(x, &overflows)
            if overflows or not -(1 << 31) <= i < 1 << 31:
                return None
            ints[n_ints] = i
            n_ints += 1
            key.append("i")
        elif type(x) in _shared_classes:
            key.append(x)
        else:
            return None
    hit = _with_shared(tape, tuple(key))
    if hit is None or (not n_ids and (tape.n < 0 or tape.is_aside)):
        return None
    _begin(tape)
    t = _write_one(tape, hit[0], hit[1], ids, n_ids)
    for k in range(n_ints):
        _push_int(tape.ints, ints[k])
    for k in range(n_floats):
        _push_float(tape.floats, floats[k])
    return t


def joined(op, xs, axis):
    """concat of tensors along their last axis, where its signature is known; else None."""
    cdef Lists tape
    cdef Value t
    cdef int32_t ids[MOST]
    cdef int n = 0
    if open_recording == NULL or (type(xs) is not list and type(xs) is not tuple) or not 0 < len(xs) <= MOST:
        return None
    tape = <Lists>open_recording
    key = [op, (-1,)]
    for x in xs:
        if not _is_tensor(x) or n == MOST:
            return None
        t = _here(<Value>x, tape)
        if t._tape is not tape:
            return None
        ids[n] = <int32_t>t._id
        n += 1
        key.append(t._type)
    if n == 0 or (axis != -1 and t._type.ndim != 1):
        return None
    hit = _with_shared(tape, tuple(key))
    if hit is None:
        return None
    _begin(tape)
    return _write_one(tape, hit[0], hit[1], ids, n)


def pieces(op, x, parts, axis):
    """The parts of a tensor along an axis, where the recording knows how; else None. See `ops.split`."""
    cdef Lists tape
    cdef Value t
    cdef int32_t id
    if open_recording == NULL or not _is_tensor(x) or not PyLong_CheckExact(parts) or parts == 1:
        return None
    tape = <Lists>open_recording
    t = _here(<Value>x, tape)
    if t._tape is not tape:
        return None
    hits = tape.cache.get((op, t._type, parts, axis))
    if hits is None:
        return None
    _begin(tape)
    id = <int32_t>t._id
    found = []
    for hit in hits:
        found.append(_write_one(tape, hit[0], hit[1], &id, 1))
    return found


def record_known_list(kind, values):
    """sum, mean or max over tensors of one type, where this recording knows how; else None."""
    cdef Lists tape
    cdef Value t
    cdef array.array ids
    cdef Py_ssize_t n = len(values), k = 1
    if open_recording == NULL or n < 2 or (<Lists>open_recording).is_aside:
        return None
    tape = <Lists>open_recording
    ids = array.clone(tape.stream, n + 1, False)
    ids.data.as_ints[0] = <int32_t>n
    type = None
    for x in values:
        if not _is_tensor(x):
            return None
        t = _here(<Value>x, tape)
        if t._tape is not tape or (t._type is not type and type is not None) or k > n:
            return None
        type = t._type
        ids.data.as_ints[k] = <int32_t>t._id
        k += 1
    hit = tape.cache.get(("list", kind, type))
    if hit is None or k != n + 1:
        return None
    _begin(tape)
    return _write_one(tape, hit[0], hit[1], <int32_t *>ids.data.as_ints, <int>(n + 1))


# Calls of cells.


cdef enum:
    _OWN = 64  # operands of a call that need no memory from the heap

cdef object _MISS = object()


cdef enum:
    _SELF, _TENSOR, _INT, _FLOAT, _TUPLE, _LIST, _EMPTY, _BOOL, _STR, _NONE

_KINDS = {"self": _SELF, "T": _TENSOR, "i": _INT, "f": _FLOAT, "tuple": _TUPLE, "list": _LIST, "empty": _EMPTY}
_STATIC = {"bool": _BOOL, "str": _STR, "none": _NONE}


cdef inline Value _operand(x, Lists tape):
    """The tensor of this recording that an argument is or stands for; None where the general path makes it."""
    cdef Value t
    if _is_tensor(x):
        t = <Value>x
        if t._tape is tape:
            return t
        t = _here(t, tape)
        return t if t._tape is tape else None
    return _row_of(x, tape)


cdef class Path:
    """The usual path of calls whose arguments have one structure; see `cells.inline_cache`.

    token: under which the recording has what the last call found, and, with all that is compared, every call
    shape: of each argument its kind, as `inline_cache` has it
    results: the number of a result, or nested tuples of such
    same_length: operands that are lists and have to be as long as another one is
    """

    cdef readonly object token
    cdef tuple same_length
    cdef object results, cell
    cdef int kinds[_OWN]  # of each argument
    cdef int sizes[_OWN]  # how many parts a tuple has, or the tuples of a list, where 0 is a list of tensors
    cdef int n_parts, n_fixed, n_results
    cdef bint has_lists, is_method

    def __init__(self, token, shape, results, n_results, same_length, cell):
        self.token, self.results, self.n_results, self.cell = token, results, n_results, cell
        if results == tuple(range(n_results)):
            self.results = None
        self.same_length = same_length
        if len(shape) <= _OWN:  # else no call fits
            self.n_parts = len(shape)
        for k, part in enumerate(shape[:_OWN]):
            kind, n = part if isinstance(part, tuple) else (part, 0)
            self.kinds[k] = _STATIC[n] if kind == "static" else _KINDS[kind]
            self.sizes[k] = 0 if kind == "static" else n
            self.has_lists |= kind == "list"
            self.is_method |= kind == "self"
            self.n_fixed += 1 if kind == "T" else n if kind == "tuple" else 0

    cdef object attempt(self, Lists tape, tuple args):
        """The results of a call; `_MISS` where it is not of this structure, or not known."""
        cdef int32_t own[_OWN]
        cdef int32_t *ids = own
        cdef Py_ssize_t room = self.n_fixed
        cdef int k
        if PyTuple_GET_SIZE(args) != self.n_parts or self.n_fixed > _OWN:
            return _MISS
        if not self.has_lists:
            return self._attempt(tape, args, ids)
        for k in range(self.n_parts):
            if self.kinds[k] == _LIST:
                x = <object>PyTuple_GET_ITEM(args, k)
                if type(x) is not list or not x:
                    return _MISS
                room += (1 + len(<list>x)) * max(self.sizes[k], 1)
        if room <= _OWN:
            return self._attempt(tape, args, ids)
        ids = <int32_t *>malloc(room * sizeof(int32_t))
        if ids == NULL:
            raise MemoryError()
        try:
            return self._attempt(tape, args, ids)
        finally:
            free(ids)

    cdef object _attempt(self, Lists tape, tuple args, int32_t *ids):
        cdef PyObject *keys[_OWN]
        cdef Py_ssize_t lengths[_OWN]
        cdef int64_t ints[_OWN]
        cdef double floats[_OWN]
        cdef int64_t numbers[_OWN]
        cdef int n_keys = 0, n_ids = 0, n_ints = 0, n_floats = 0, n_numbers = 0, n_operands = 0, overflows = 0
        cdef int k, j, e, n, kind
        cdef Py_ssize_t length
        cdef Value t
        cdef PyObject *found
        cdef tuple hit, limits
        for k in range(self.n_parts):
            x = <object>PyTuple_GET_ITEM(args, k)
            kind, n = self.kinds[k], self.sizes[k]
            if n_keys + 4 > _OWN or n_operands + 4 > _OWN:
                return _MISS
            if kind == _TENSOR:
                t = _operand(x, tape)
                if t is None:
                    return _MISS
                ids[n_ids] = <int32_t>t._id
                keys[n_keys] = <PyObject *>t._type
                n_ids, n_keys, n_operands = n_ids + 1, n_keys + 1, n_operands + 1
            elif kind == _SELF:
                keys[n_keys] = <PyObject *>x
                n_keys += 1
            elif kind == _INT:
                if not PyLong_CheckExact(x):
                    return _MISS
                ints[n_ints] = numbers[n_numbers] = PyLong_AsLongLongAndOverflow(x, &overflows)
                if overflows:
                    return _MISS
                n_ints, n_numbers = n_ints + 1, n_numbers + 1
            elif kind == _FLOAT:
                if not PyFloat_CheckExact(x):
                    return _MISS
                floats[n_floats], numbers[n_numbers] = PyFloat_AS_DOUBLE(x), 0
                n_floats, n_numbers = n_floats + 1, n_numbers + 1
            elif kind == _TUPLE:
                if type(x) is not tuple or PyTuple_GET_SIZE(x) != n or n_keys + n > _OWN or n_operands + n > _OWN:
                    return _MISS
                for j in range(n):
                    t = _operand(<object>PyTuple_GET_ITEM(x, j), tape)
                    if t is None:
                        return _MISS
                    ids[n_ids] = <int32_t>t._id
                    keys[n_keys] = <PyObject *>t._type
                    n_ids, n_keys = n_ids + 1, n_keys + 1
                n_operands += n
            elif kind == _LIST:
                length = PyList_GET_SIZE(x)
                if n_keys + n + 1 > _OWN or n_operands + n + 1 > _OWN:
                    return _MISS
                for j in range(max(n, 1)):
                    ids[n_ids + j * (1 + length)] = <int32_t>length
                    lengths[n_operands + j] = length
                    keys[n_keys + j] = NULL
                for e in range(length):
                    if PyList_GET_SIZE(x) != length:
                        return _MISS
                    y = <object>PyList_GET_ITEM(x, e)
                    if n and (type(y) is not tuple or PyTuple_GET_SIZE(y) != n):
                        return _MISS
                    for j in range(max(n, 1)):
                        t = _operand(<object>PyTuple_GET_ITEM(y, j) if n else y, tape)
                        if t is None or (keys[n_keys + j] != NULL and keys[n_keys + j] != <PyObject *>t._type):
                            return _MISS
                        keys[n_keys + j] = <PyObject *>t._type
                        ids[n_ids + j * (1 + length) + 1 + e] = <int32_t>t._id
                n_ids += <int>(max(n, 1) * (1 + length))
                n_keys, n_operands = n_keys + max(n, 1), n_operands + max(n, 1)
            elif kind == _EMPTY:
                if type(x) is not list or x:
                    return _MISS
            elif kind == _NONE and x is not None or kind == _BOOL and type(x) is not bool:
                return _MISS
            elif kind == _STR and type(x) is not str:
                return _MISS
            else:
                keys[n_keys] = <PyObject *>x
                n_keys += 1
        if self.same_length:
            for j, k in self.same_length:
                if lengths[j] != lengths[k]:
                    return _MISS
        found = PyDict_GetItem(tape.cache, self.token)
        if found != NULL and _is_same(<tuple>found, keys, n_keys):
            hit = <tuple>found
        else:
            hit = self._found(tape, args, keys, n_keys)
            if hit is None:
                return _MISS
        if <object>PyTuple_GET_ITEM(hit, 1) != <object>PyList_GET_ITEM(_epoch, 0):
            return _MISS
        facts = <object>PyTuple_GET_ITEM(hit, 2)
        if facts is not None and not _same(*facts):
            return _MISS
        if not self.is_method and <object>PyTuple_GET_ITEM(hit, 4) is not _state.training:
            return _MISS
        if <object>PyTuple_GET_ITEM(hit, 3) is not None:
            limits = <tuple>PyTuple_GET_ITEM(hit, 3)
            for k in range(n_numbers):
                if not (0 <= numbers[k] < limits[k] or limits[n_numbers + k] <= numbers[k] < 0):
                    _out_of_range(numbers[k], limits[k], limits[n_numbers + k])
        if not n_ids and (tape.n < 0 or tape.is_aside):
            return _MISS
        made = self._write(tape, <object>PyTuple_GET_ITEM(hit, 0), hit, 5 + n_keys, ids, n_ids)
        for k in range(n_ints):
            _push_int(tape.ints, ints[k])
        for k in range(n_floats):
            _push_float(tape.floats, floats[k])
        return made

    cdef object _found(self, Lists tape, tuple args, PyObject **keys, int n_keys):
        """What is known of calls with these types and this owner; None where nothing is."""
        cdef list key = [self.token]
        cdef int k = 0, j
        for j in range(self.n_parts):
            if self.kinds[j] == _SELF:
                key.append(id(args[j]))
                k += 1
            elif self.kinds[j] in (_BOOL, _STR, _NONE):
                key.append((type(args[j]), args[j]))
                k += 1
            elif self.kinds[j] in (_TENSOR, _TUPLE, _LIST):
                for _ in range(self.sizes[j] if self.kinds[j] == _TUPLE else max(self.sizes[j], 1)):
                    key.append(<object>keys[k])
                    k += 1
        whole = tuple(key)
        hit = tape.cache.get(whole)
        if hit is None:
            hit = self.cell.known_call(tape, whole, args[0] if self.is_method else None)
        if hit is not None:
            tape.cache[self.token] = hit
        return hit

    cdef object _write(self, Lists tape, int number, tuple hit, int first_type, int32_t *ids, int n_ids):
        cdef long first
        cdef int place, k
        cdef Py_ssize_t n
        cdef int32_t *to
        cdef PyObject *made[_OWN]
        cdef Value t
        _begin(tape)
        place = _place(tape)
        first = tape.n
        tape._reserve(first + self.n_results)
        results = PyTuple_New(self.n_results)
        for k in range(self.n_results):
            t = _new_tensor(tape, first + k, <object>PyTuple_GET_ITEM(hit, first_type + k))
            Py_INCREF(t)
            PyTuple_SET_ITEM(results, k, t)
        n = tape.stream.ob_size
        array.resize_smart(tape.stream, n + 1 + n_ids)
        to = <int32_t *>tape.stream.data.as_ints + n
        to[0] = number
        for k in range(n_ids):
            to[k + 1] = ids[k]
        _push(tape.places, place)
        for k in range(self.n_results):
            if k + 1 < self.n_results:
                _push(tape.beyond, <int32_t>(first + k))
            t = <Value>PyTuple_GET_ITEM(results, k)
            tape.living[first + k] = <PyObject *>t
            tape.types[first + k] = <PyObject *>t._type
        tape.n = first + self.n_results
        return results[0] if self.results == 0 else results if self.results is None else _filled(self.results, results)


cdef object _filled(structure, tuple results):
    return tuple([_filled(x, results) for x in structure]) if type(structure) is tuple else results[structure]


cdef inline bint _is_same(tuple hit, PyObject **keys, int n_keys):
    cdef int k
    for k in range(n_keys):
        if PyTuple_GET_ITEM(hit, 5 + k) != keys[k]:
            return False
    return True


cdef class Entry:
    """What the function that users call has: the cell, its paths, and names and defaults of its parameters.

    watched: what must not be bound anew: (dict, name, value, whether that is a weak reference to it), or with None in
        place of the dict and a function that gives the value in place of the name
    names: None where the parameters are not plain
    """

    cdef public object cell
    cdef public list paths, watched
    cdef tuple names, defaults

    def __init__(self, cell, names, defaults):
        self.cell, self.names, self.defaults, self.paths, self.watched = cell, names, defaults or (), [], []

    cdef tuple _positional(self, tuple args, dict named):
        """All arguments by position; None where that is left to the general path."""
        cdef Py_ssize_t given = len(args), k
        cdef Py_ssize_t n = len(self.names)
        if given > n:
            return None
        values = list(args)
        for k in range(given, n):
            name = self.names[k]
            if name in named:
                values.append(named[name])
            elif k >= n - len(self.defaults):
                values.append(self.defaults[k - n + len(self.defaults)])
            else:
                return None
        return tuple(values) if given + sum([name in named for name in self.names[given:]]) == given + len(named) else None

    cdef bint _differs(self) except -1:
        cdef PyObject *value
        for fact in self.watched:
            holder, name, known, is_weak = <tuple>fact
            if is_weak is True:
                known = known()
                if known is None:
                    return True
            if holder is None:
                try:
                    if name() is not known:
                        return True
                except (LookupError, AttributeError, ValueError):
                    return True
            else:
                value = PyDict_GetItem(holder, name)
                if value != <PyObject *>known:
                    return True
        return False

    cdef object call(self, tuple args, dict named):
        cdef tuple positional = args
        if open_recording != NULL and self.paths:
            if named or (self.names is not None and PyTuple_GET_SIZE(args) != len(self.names)):
                positional = None if self.names is None else self._positional(args, named)
            if positional is not None and not self._differs():
                for path in self.paths:
                    made = (<Path>path).attempt(<Lists>open_recording, positional)
                    if made is not _MISS:
                        return made
        return self.cell.call(args, named)


def entry_function(Entry entry):
    """The function that users call."""

    def call(*args, **named):
        return entry.call(args, named)

    return call


cdef object _row_of = None
cdef list _epoch = [0]
cdef object _same = None
cdef object _state = None
cdef object _out_of_range = None


def install_cells(row_of, epoch, same, state, out_of_range):
    """Take what calls of cells need of modules that need this one."""
    global _row_of, _epoch, _same, _state, _out_of_range
    _row_of, _epoch, _same, _state, _out_of_range = row_of, epoch, same, state, out_of_range
