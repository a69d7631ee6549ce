# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, binding=True
"""The compiled recorder: tensors, the lists of a recording, and the usual path of ops, in C.

It does what `nodes`, `tensor_list`, `ops` and `cells.inline_cache` do in Python, for what is written most often: ops of
known signature on tensors of the open recording, numbers and shared values; and functions of the library that were
called with arguments of the same kinds before. All else is left to Python.

A tensor that dies says so to its recording, which therefore knows which of its values are referenced. No Python runs
while a node is written, so that no exception can interrupt it. Objects are made before that: the cycle collector may run
when one is made, and with it finalisers, which may record, too.
"""

cimport cython
from cpython cimport array
from cpython.dict cimport PyDict_GetItem
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

import array as _array
import math
import weakref

cdef extern from *:
    """
    #if defined(_MSC_VER)
    static __declspec(thread) PyObject *open_recording = NULL;
    static __declspec(thread) int is_training = 1;
    #else
    static _Thread_local PyObject *open_recording = NULL;
    static _Thread_local int is_training = 1;
    #endif

    /* Tensors that have died, for new ones: their fields are None, and the collector does not know them. */
    enum {MOST_FREE = 1024};
    static PyTypeObject *tensor_type = NULL;
    static destructor free_value = NULL;  /* of the class in C that tensors are a subclass of */
    static void (*empty_tensor)(PyObject *) = NULL;
    static PyObject *free_tensors[MOST_FREE];
    static int n_free = 0;

    static void tensor_dealloc(PyObject *t) {
        PyTypeObject *type = Py_TYPE(t);
        PyObject **references = (PyObject **)((char *)t + type->tp_weaklistoffset);
        if (type == tensor_type && n_free < MOST_FREE) {
            PyObject_GC_UnTrack(t);
            if (*references != NULL)
                PyObject_ClearWeakRefs(t);
            Py_SET_REFCNT(t, 1);
            empty_tensor(t);
            if (n_free < MOST_FREE) {
                free_tensors[n_free++] = t;
                return;
            }
            Py_SET_REFCNT(t, 0);
            PyObject_GC_Track(t);
        }
        free_value(t);
    #if !defined(CYTHON_USE_TYPE_SPECS) || !CYTHON_USE_TYPE_SPECS
        Py_DECREF(type);
    #endif
    }
    static void keep_free_tensors(PyObject *type, PyObject *value, void (*empty)(PyObject *)) {
        PyNumberMethods *to = ((PyTypeObject *)type)->tp_as_number, *from = ((PyTypeObject *)value)->tp_as_number;
        /* A subclass in Python looks operators up by their names. */
        to->nb_add = from->nb_add;
        to->nb_subtract = from->nb_subtract;
        to->nb_multiply = from->nb_multiply;
        to->nb_true_divide = from->nb_true_divide;
        to->nb_matrix_multiply = from->nb_matrix_multiply;
        empty_tensor = empty;
        free_value = ((PyTypeObject *)value)->tp_dealloc;
        tensor_type = (PyTypeObject *)type;
        tensor_type->tp_dealloc = tensor_dealloc;
    }
    static inline PyObject *new_tensor(PyObject *nothing) {
        if (n_free > 0) {
            PyObject *t = free_tensors[--n_free];
            PyObject_GC_Track(t);
            return t;
        }
        return tensor_type->tp_new(tensor_type, nothing, NULL);
    }

    /* `forward` in the mode of a module, training or not. In C: Cython would leave a line in each traceback. */
    enum {FEW = 8};
    typedef PyObject *(*Called)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
    static PyObject *name_of_mode = NULL, *name_of_forward = NULL;
    static Called call_in_mode = NULL;

    static PyObject *call_module(PyObject *module, PyObject *const *args, Py_ssize_t n, PyObject *names) {
        PyObject *all[1 + FEW], *mode;
        int is_same;
        if (n <= FEW && names == NULL) {
            mode = PyObject_GetAttr(module, name_of_mode);
            if (mode == NULL)
                return NULL;
            is_same = mode == (is_training ? Py_True : Py_False);
            Py_DECREF(mode);
            if (is_same) {
                all[0] = module;
                memcpy(all + 1, args, n * sizeof(PyObject *));
                return PyObject_VectorcallMethod(name_of_forward, all, n + 1, NULL);
            }
        }
        return call_in_mode(module, args, n, names);
    }
    static PyMethodDef call_of_module = {
        "__call__", (PyCFunction)(void *)call_module, METH_FASTCALL | METH_KEYWORDS,
        "__call__($self, /, *args, **kwargs)\\n--\\n\\n",
    };
    static PyObject *method_of_modules(PyObject *type, Called in_mode) {
        call_in_mode = in_mode;
        name_of_mode = PyUnicode_InternFromString("training");
        name_of_forward = PyUnicode_InternFromString("forward");
        if (name_of_mode == NULL || name_of_forward == NULL)
            return NULL;
        return PyDescr_NewMethod((PyTypeObject *)type, &call_of_module);
    }
    """
    PyObject *open_recording
    int is_training
    object new_tensor(object nothing)
    object method_of_modules(object type, object (*in_mode)(object, PyObject **, Py_ssize_t, PyObject *))
    void keep_free_tensors(object type, object value, void (*empty)(object) noexcept)

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
    PyObject *PyFunction_GetCode(object function)
    PyTypeObject *Py_TYPE(object x)

INTERFACE = 4
"""As in `record/choice.py`: another number where the Python around this module expects other functions of it."""

WRITING = math.inf
"""The count of a recording in which a node is being written: it was interrupted if anyone else sees it."""

GUARDED = -1 << 60
"""The room of a recording while an asyncio task is inside of `no_grad`: every op asks whether its task runs."""

cdef enum:
    MOST = 24  # operands of a node on the paths that do not take lists

cdef object _nothing = ()
cdef object _tensor_class = None
cdef object _shared_classes = frozenset()
cdef object _expression = None
cdef object _of_library = None
cdef list _switched = [0]
cdef object _learned = None
cdef object _learned_list = None
cdef object _source = None
cdef object _payload_number = None
cdef object _DONE = None
cdef object _user_place = None


def install(tensor_class, shared_classes, expression, of_library, switched, learned, learned_list, links, user_place):
    """Take what is defined in modules that need this one: see `record/choice.py`."""
    global _tensor_class, _shared_classes, _expression, _of_library, _switched, _learned, _user_place
    global _learned_list, _source, _payload_number, _DONE
    _tensor_class, _shared_classes, _expression, _of_library = tensor_class, shared_classes, expression, of_library
    _switched, _learned, _user_place = switched, learned, user_place
    _learned_list = learned_list
    keep_free_tensors(tensor_class, Value, _empty)
    _source, _payload_number, _DONE = links


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


cdef class Opened:
    """What a thread records: it holds the recording, and goes with the thread."""

    cdef readonly object recording
    cdef PyObject *pointer  # the same, also when the collector has taken the other

    def __dealloc__(self):
        global open_recording
        if open_recording == self.pointer:
            open_recording = NULL

    def set(self, recording):
        """From now on the thread records this, or nothing where it is None."""
        global open_recording
        open_recording = self.pointer = NULL if recording is None else <PyObject *>recording
        self.recording = recording


def get_open():
    """What this thread records; None where it is nothing."""
    return None if open_recording == NULL else <object>open_recording


def get_training():
    """Whether this thread is training."""
    return True if is_training else False


def set_training(mode):
    """From now on this thread is training, or not."""
    global is_training
    is_training = bool(mode)


# Tensors.


@cython.c_api_binop_methods(True)  # else a subclass in Python looks each method up by its name
@cython.no_gc_clear  # a tensor needs its recording until it dies; the collector breaks a cycle elsewhere
cdef class Value:
    """What `RecordedTensor` has: its recording, its number there, its type, and its array once it was computed."""

    cdef public Lists _tape
    cdef public long _id
    cdef public object _type
    cdef public object _value
    cdef object __weakref__

    def __add__(left, right):
        return _operator(_add, _add_reflected, left, right)

    def __sub__(left, right):
        return _operator(_sub, _sub_reflected, left, right)

    def __mul__(left, right):
        return _operator(_mul, _mul_reflected, left, right)

    def __truediv__(left, right):
        return _operator(_div, _div_reflected, left, right)

    def __matmul__(left, right):
        return _operator(_matmul, _matmul_reflected, left, right)

    def __dealloc__(self):
        _forget(self)


cdef inline void _forget(Value t) noexcept:
    """Tell its recording that a tensor dies."""
    cdef Lists tape = t._tape
    if tape is not None and 0 <= t._id < tape.capacity and tape.living[t._id] == <PyObject *>t:
        tape.living[t._id] = NULL


cdef void _empty(object t) noexcept:
    """Let go of what a tensor has that dies."""
    _forget(<Value>t)
    (<Value>t)._tape = (<Value>t)._type = (<Value>t)._value = None


cdef inline Value _new_tensor(Lists tape, object type):
    """A tensor without number."""
    cdef Value t = <Value>new_tensor(_nothing)
    t._tape = tape
    t._id = -1
    t._type = type
    return t


# The lists of a recording.


cdef class Lists:
    """The growing arrays of a recording, and which of its tensors live.

    stream, ints, floats, places, beyond, linked: as in `Recording`
    count: how many values there are, or WRITING
    mode: 1 where constants are recorded, plus 2 where the default dtype is float64
    log: where the stream, the values and the data of each node begin, while someone asks for it
    """

    cdef public array.array stream, ints, floats, places, beyond, linked
    cdef public object user_code
    cdef public list codes
    cdef public dict cache, imports
    cdef public long serial
    cdef public int mode
    cdef public bint is_aside
    cdef long n
    cdef bint guarded, is_left
    cdef array.array log
    cdef long capacity
    cdef PyObject **living
    cdef PyObject **types
    cdef list others

    def __cinit__(self):
        self.stream, self.places, self.beyond = _array.array("i"), _array.array("i"), _array.array("i")
        self.ints, self.floats, self.linked = _array.array("q"), _array.array("d"), _array.array("q")
        self.others = []
        self.codes = []
        self.cache, self.imports = {}, {}

    def __dealloc__(self):
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
        t = _new_tensor(self, <object>self.types[id])
        t._id = id
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
        self.is_left = True
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


cdef inline int _extend(array.array to, array.array more) except -1:
    cdef Py_ssize_t n = to.ob_size, size = to.ob_descr.itemsize
    array.resize_smart(to, n + more.ob_size)
    memcpy(to.data.as_chars + n * size, more.data.as_chars, more.ob_size * size)
    return 0


cdef inline int _begin(Lists tape) except -1:
    """Raise where nothing can be written: a write was interrupted, or the task that runs is another one."""
    if tape.n < 0 or tape.guarded:
        tape.more_tensors(tape.count)
    return 0


cdef inline int _go_on(Lists tape) except -1:
    """Raise where the recording has run since the write began: finalisers that force did it."""
    if tape.is_left:
        tape.more_tensors(WRITING)
    return 0


cdef int _note_start(Lists tape) except -1:
    _push_int(tape.log, tape.stream.ob_size)
    _push_int(tape.log, tape.n)
    _push_int(tape.log, tape.ints.ob_size)
    return _push_int(tape.log, tape.floats.ob_size)


cdef inline int _put_node(Lists tape, int number, int32_t *operands, Py_ssize_t n_operands, int place) except -1:
    """Append a node to the stream, whose number of the signature and operands these are."""
    cdef Py_ssize_t n = tape.stream.ob_size
    cdef Py_ssize_t k
    cdef int32_t *to
    if tape.log is not None:
        _note_start(tape)
    array.resize_smart(tape.stream, n + 1 + n_operands)
    to = <int32_t *>tape.stream.data.as_ints + n
    to[0] = number
    for k in range(n_operands):
        to[k + 1] = operands[k]
    return _push(tape.places, place)


cdef inline void _put_value(Lists tape, Value t) noexcept:
    """Let a tensor be the next value; there is room for it."""
    t._id = tape.n
    tape.living[tape.n] = <PyObject *>t
    tape.types[tape.n] = <PyObject *>t._type
    tape.n += 1


cdef Value _write_one(Lists tape, int number, object type, int32_t *operands, int n_operands):
    """A node of one result, whose data was checked; the caller adds them when it has been written."""
    cdef Value t = _new_tensor(tape, type)
    cdef int place = _place(tape)
    # From here on nothing is made.
    _go_on(tape)
    tape._reserve(tape.n + 1)
    _put_node(tape, number, operands, n_operands, place)
    _put_value(tape, t)
    return t


def write(Lists tape, int number, operands, types, place=None, ints=(), floats=(), array=None):
    """Write one node, whole or not at all; the tensors of its results. See `nodes.write`."""
    return _write_any(tape, number, operands, types, place, ints, floats, array)


cdef list _write_any(Lists tape, int number, operands, types, place, ints, floats, content):
    cdef list made = []
    cdef Value t
    cdef array.array added = _array.array("i", operands)
    cdef array.array more_ints = _array.array("q", ints), more_floats = _array.array("d", floats)
    cdef long first
    cdef int instruction
    cdef int64_t there = 0, value_there = 0
    _begin(tape)
    if isinstance(content, tuple):
        there, value_there = content[0], content[1]
    for type in types:
        made.append(_new_tensor(tape, type))
    if place is None:
        instruction = _place(tape)
    else:
        code, instruction = place
        if code is not tape.user_code:
            _note(tape, code)
    while True:
        _go_on(tape)
        first = tape.n
        tape._reserve(first + len(made))
        payload = (first, content)
        if tape.n == first:
            break
    # From here on nothing is made.
    if isinstance(content, tuple):
        _push_int(tape.linked, there)
        _push_int(tape.linked, value_there)
        _push_int(tape.linked, first)
    elif content is not None:
        tape.payloads.append(payload)
    _put_node(tape, number, <int32_t *>added.data.as_ints, added.ob_size, instruction)
    _extend(tape.ints, more_ints)
    _extend(tape.floats, more_floats)
    for t in made:
        if tape.n > first:
            _push(tape.beyond, <int32_t>(tape.n - 1))
        _put_value(tape, t)
    return made


include "compiled_ops.pxi"
include "compiled_cells.pxi"
include "compiled_calls.pxi"
