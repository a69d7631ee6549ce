"""Calls of functions of the library that write the same nodes on all arguments of some kinds: part of `compiled.pyx`."""


cdef enum:
    _MANY = 64  # most operands of all nodes of a call
    _LIST_SLOT = 1
    _RECENT = 64
    _CONSTANT = 1 << 28  # from here on an operand is a number as it is: the length of a list


cdef struct Kinds:  # of the arguments of a call
    PyObject *of[MOST]  # what they are, borrowed from them
    int32_t ids[MOST]  # numbers of the tensors among them
    int n, n_ids


cdef bint _add_kind(Kinds *kinds, x, Lists tape) except -1:
    """Add what an argument is: of a tensor its type, of a shared value what stands for it, else the very object; of a
    list or tuple with tensors these of each. False where no call is known with it."""
    cdef Value t
    if kinds.n + 2 > MOST:
        return False
    if _is_tensor(x):
        t = _here(<Value>x, tape)
        if t._tape is not tape:
            return False
        kinds.ids[kinds.n_ids] = <int32_t>t._id
        kinds.n_ids += 1
        kinds.of[kinds.n] = <PyObject *>t._type
    elif type(x) is _expression:
        operand = x.operand
        if operand is None:
            return False
        kinds.of[kinds.n] = <PyObject *>operand
    elif _has_tensors(x):
        kinds.of[kinds.n] = <PyObject *>(_LIST_OF if type(x) is list else _TUPLE_OF)
        kinds.n += 1
        for each in x:
            if not _is_tensor(each) or not _add_kind(kinds, each, tape):
                return False
        if kinds.n + 1 > MOST:
            return False
        kinds.of[kinds.n] = <PyObject *>_END
    else:
        kinds.of[kinds.n] = <PyObject *>x
    kinds.n += 1
    return True


cdef object _LIST_OF = object(), _TUPLE_OF = object(), _END = object()


cdef inline bint _has_tensors(x):
    """Whether it is a list or tuple that begins with a tensor."""
    if type(x) is list:
        return PyList_GET_SIZE(x) and _is_tensor(<object>PyList_GET_ITEM(x, 0))
    return type(x) is tuple and PyTuple_GET_SIZE(x) and _is_tensor(<object>PyTuple_GET_ITEM(x, 0))


cdef inline int _place_of(PyObject **kinds, Py_ssize_t n) noexcept:
    """Where a script for arguments of these kinds stands among the recent ones."""
    cdef uintptr_t h = 0
    cdef Py_ssize_t k
    for k in range(n):
        h = h * 31 + (<uintptr_t>kinds[k] >> 4)
    return <int>((h ^ (h >> 7)) & (_RECENT - 1))


@cython.no_gc_clear  # until it dies it stands among the recent scripts of its function
cdef class Script:
    """The nodes that a call writes.

    signatures, types: of its nodes, and of their values
    counts: of each node how many values, operands, integers and other numbers it has
    operands: the number of an argument; -1, -2, … for the first value, the second, …; or a constant
    results: numbers of the values that the call returns, ascending; is_list: whether in a list
    passed: the number of an argument that the call returns, and does nothing; else -1
    mode, n_ids: of the recording, and how many arguments are tensors
    call, like, at: of which function it is; kinds of the arguments that it was last used with; where it stands there
    """

    cdef long switched, serial
    cdef list signatures, types
    cdef array.array counts, operands, ints, floats, numbers
    cdef tuple results, like
    cdef bint is_list
    cdef Call call
    cdef int mode, n_ids, at, passed

    def __dealloc__(self):
        self._leave()

    cdef void _leave(self) noexcept:
        if self.call is not None and self.call.recent[self.at] == <PyObject *>self:
            self.call.recent[self.at] = NULL

    cdef int stand(self, Call call, tuple like) except -1:
        """Let it be found by these kinds of arguments from now on."""
        cdef PyObject *kinds[MOST]
        cdef Py_ssize_t n = PyTuple_GET_SIZE(like), k
        if n <= MOST:
            for k in range(n):
                kinds[k] = PyTuple_GET_ITEM(like, k)
            self._leave()
            self.call, self.like, self.at = call, like, _place_of(kinds, n)
            call.recent[self.at] = <PyObject *>self
        return 0

    cdef bint is_on(self, Kinds *kinds, int mode) except -1:
        """Whether it was written for these very kinds of arguments."""
        cdef int k
        if PyTuple_GET_SIZE(self.like) != kinds.n or self.n_ids != kinds.n_ids or self.mode != mode:
            return False
        if self.switched != <long><object>PyList_GET_ITEM(_switched, 0):
            return False
        for k in range(kinds.n):
            if PyTuple_GET_ITEM(self.like, k) != kinds.of[k]:
                return False
        return True

    cdef object replay(self, Lists tape, int32_t *arguments):
        return self._write(tape, arguments) if self.passed < 0 else tape.tensor(arguments[self.passed])

    cdef object _write(self, Lists tape, int32_t *arguments):
        cdef int32_t own[_MANY]
        cdef int32_t numbers[_MANY]
        cdef list made
        cdef Value only = None
        cdef Py_ssize_t n_nodes = PyList_GET_SIZE(self.signatures), n_results = PyTuple_GET_SIZE(self.results), k, j
        cdef int place, operand
        cdef int *counts = self.counts.data.as_ints
        cdef int *operands = self.operands.data.as_ints
        cdef int64_t *ints = <int64_t *>self.ints.data.as_longlongs
        cdef double *floats = self.floats.data.as_doubles
        cdef long first
        if self.serial == tape.serial:
            memcpy(numbers, self.numbers.data.as_ints, n_nodes * sizeof(int32_t))
        else:
            for k in range(n_nodes):
                numbers[k] = tape.signature_number(<object>PyList_GET_ITEM(self.signatures, k))
            memcpy(self.numbers.data.as_ints, numbers, n_nodes * sizeof(int32_t))
            self.serial = tape.serial
        _begin(tape)
        if self.is_list:
            made = [_new_tensor(tape, self._type_of(k)) for k in range(n_results)]
        else:
            only = _new_tensor(tape, self._type_of(0))
        place = _place(tape)
        # From here on nothing is made.
        _go_on(tape)
        tape._reserve(tape.n + PyList_GET_SIZE(self.types))
        first = tape.n
        for k in range(n_nodes):
            for j in range(counts[1]):
                operand = operands[j]
                if operand >= _CONSTANT:
                    own[j] = operand - _CONSTANT
                else:
                    own[j] = arguments[operand] if operand >= 0 else <int32_t>(first - 1 - operand)
            _put_node(tape, numbers[k], own, counts[1], place)
            for j in range(counts[2]):
                _push_int(tape.ints, ints[j])
            for j in range(counts[3]):
                _push_float(tape.floats, floats[j])
            for j in range(counts[0]):
                if j:
                    _push(tape.beyond, <int32_t>(tape.n - 1))
                tape.types[tape.n] = PyList_GET_ITEM(self.types, tape.n - first)
                tape.n += 1
            operands, ints, floats, counts = operands + counts[1], ints + counts[2], floats + counts[3], counts + 4
        if not self.is_list:
            return self._put(tape, only, 0, first)
        for k in range(n_results):
            self._put(tape, <Value>PyList_GET_ITEM(made, k), k, first)
        return made

    cdef inline object _type_of(self, Py_ssize_t k):
        """The type of a result."""
        return <object>PyList_GET_ITEM(self.types, <long><object>PyTuple_GET_ITEM(self.results, k))

    cdef inline Value _put(self, Lists tape, Value t, Py_ssize_t k, long first):
        """Let a tensor be a result."""
        t._id = first + <long><object>PyTuple_GET_ITEM(self.results, k)
        tape.living[t._id] = <PyObject *>t
        return t


cdef inline bint _is_of(x, Lists tape):
    """Whether it is a value of this recording."""
    return _is_tensor(x) and (<Value>x)._tape is tape


cdef Script _script(Lists tape, array.array log, int32_t *arguments, int n_arguments, object results):
    """What was written since the log was begun; None where a call on other arguments of these kinds may write else. The
    arguments are different values."""
    cdef Script script = Script()
    cdef list operands = [], types = []
    cdef array.array counts = _array.array("i")
    cdef Py_ssize_t n_nodes = log.ob_size // 4, k, at, end
    cdef int64_t *of = <int64_t *>log.data.as_longlongs
    cdef long first, n_values
    cdef int j, length
    cdef dict places = {}
    for j in range(n_arguments):
        places[arguments[j]] = j
    script.switched, script.mode, script.n_ids, script.passed = _switched[0], tape.mode, n_arguments, -1
    if n_nodes == 0:
        script.passed = places.get((<Value>results)._id, -1) if _is_of(results, tape) else -1
        return script if script.passed >= 0 else None
    if n_nodes > 16:
        return None
    first, n_values = of[1], tape.n - of[1]
    for k in range(n_values):
        places[first + k] = -1 - k
        types.append(tape.type_of(first + k))
    script.signatures = []
    for k in range(n_nodes):
        at = of[4 * k]
        end = of[4 * k + 4] if k + 1 < n_nodes else tape.stream.ob_size
        signature = tape.signatures[tape.stream.data.as_ints[at]]
        if signature.draws:
            return None
        script.signatures.append(signature)
        before = len(operands)
        at += 1
        for slot in signature.slots:
            length = 1
            if slot.kind == _LIST_SLOT:
                length = tape.stream.data.as_ints[at]
                operands.append(_CONSTANT + length)
                at += 1
            for j in range(length):
                place = places.get(tape.stream.data.as_ints[at])
                if place is None:
                    return None
                operands.append(place)
                at += 1
        if at != end:
            return None
        counts.append((of[4 * k + 5] if k + 1 < n_nodes else tape.n) - of[4 * k + 1])
        counts.append(len(operands) - before)
        counts.append((of[4 * k + 6] if k + 1 < n_nodes else tape.ints.ob_size) - of[4 * k + 2])
        counts.append((of[4 * k + 7] if k + 1 < n_nodes else tape.floats.ob_size) - of[4 * k + 3])
    if len(operands) > _MANY:
        return None
    found = []
    for x in results if type(results) is list else (results,):
        if not _is_of(x, tape) or (<Value>x)._id < first:
            return None
        found.append((<Value>x)._id - first)
    if found != sorted(set(found)):
        return None
    script.results, script.is_list = tuple(found), type(results) is list
    script.types, script.counts = types, counts
    script.operands, script.numbers = _array.array("i", operands), _array.array("i", [0] * n_nodes)
    script.ints, script.floats = tape.ints[of[2]:], tape.floats[of[3]:]
    script.serial = -1
    return script


cdef class Call:
    """A function, and what it writes on arguments of which kinds; with shared ones that is kept with the youngest.

    recent: what it wrote last, by a hash of the addresses of these kinds
    """

    cdef object slow
    cdef dict known
    cdef PyObject *recent[_RECENT]

    def __init__(self, slow):
        self.slow, self.known = slow, {}

    cdef object call(self, tuple args, dict named):
        cdef Lists tape
        cdef Kinds kinds
        cdef PyObject *recent
        cdef Script script
        if open_recording == NULL:
            return self.slow(*args) if named is None else self.slow(*args, **named)
        tape = <Lists>open_recording
        if tape.n < 0 or tape.is_aside or len(args) > MOST:
            return self.slow(*args) if named is None else self.slow(*args, **named)
        if not named and not tape.mode & 1:
            kinds.n = kinds.n_ids = 0
            for x in args:
                if not _add_kind(&kinds, x, tape):
                    return self.slow(*args)
            recent = self.recent[_place_of(kinds.of, kinds.n)]
            if recent != NULL:
                script = <Script>recent
                if script.is_on(&kinds, tape.mode):
                    return script.replay(tape, kinds.ids)
        return self.find(tape, args, {} if named is None else named)

    cdef object find(self, Lists tape, tuple args, dict named):
        """The same where it was not called so recently."""
        cdef int32_t ids[MOST]
        cdef int n_ids = 0
        cdef list key = [self, tape.mode, len(args)]  # by which a name is told from a word
        cdef list like = []  # as `_add_kind` has them
        cdef PyObject *hit
        cdef Script script
        cdef dict known = self.known
        youngest = None
        for x in args:
            if _is_tensor(x) or _has_tensors(x):
                if not _is_tensor(x):
                    key.append((type(x), len(x)))
                    like.append(_LIST_OF if type(x) is list else _TUPLE_OF)
                for each in (x,) if _is_tensor(x) else x:
                    if not _is_tensor(each) or n_ids == MOST:
                        return self.slow(*args, **named)
                    each = _here(<Value>each, tape)
                    if (<Value>each)._tape is not tape:
                        return self.slow(*args, **named)
                    ids[n_ids] = <int32_t>(<Value>each)._id
                    n_ids += 1
                    key.append((<Value>each)._type)
                    like.append((<Value>each)._type)
                    if tape.mode & 1:
                        key.append((<Value>each)._id >= tape.frozen_from)
                if not _is_tensor(x):
                    like.append(_END)
            elif type(x) in _shared_classes:
                x = x.operand
                if x is None:
                    return self.slow(*args, **named)
                youngest = _younger(youngest, x)
                key.append(x)
                like.append(x)
            elif _note_kind(key, x):
                like.append(x)
            else:
                return self.slow(*args, **named)
        for name, x in named.items():
            key.append(name)
            if not _note_kind(key, x):
                return self.slow(*args, **named)
        if not n_ids:
            return self.slow(*args, **named)
        if youngest is not None:
            known = youngest._signatures
        whole = tuple(key)
        hit = PyDict_GetItem(known, whole)
        if hit != NULL:
            script = <object>hit
            if script is None:
                return self.slow(*args, **named)
            if script.switched == <long>_switched[0]:
                if not named and not tape.mode & 1:
                    script.stand(self, tuple(like))
                return script.replay(tape, ids)
        if tape.log is not None or _has_twice(ids, n_ids):  # a call in another one; which is which cannot be told
            return self.slow(*args, **named)
        return self.learn(tape, args, named, known, whole, ids, n_ids)

    cdef object learn(self, Lists tape, tuple args, dict named, dict known, tuple key, int32_t *ids, int n_ids):
        """Call the function, and keep what it has written."""
        cdef array.array log = _array.array("q")
        cdef Script script
        before = _beside(tape)
        tape.log = log
        try:
            results = self.slow(*args, **named)
        finally:
            tape.log = None
        is_whole = open_recording == <PyObject *>tape and not tape.is_left and tape.n >= 0 and before == _beside(tape)
        if is_whole and tape.since == _switched[0]:  # else it may know forms of before a length was seen to vary
            if len(known) >= _FULL:
                if known is not self.known:  # it has signatures, too
                    return results
                known.clear()
            known[key] = _script(tape, log, ids, n_ids, results)
        return results


cdef bint _has_twice(int32_t *ids, int n) noexcept:
    cdef int k, j
    for k in range(n):
        for j in range(k):
            if ids[j] == ids[k]:
                return True
    return False


cdef bint _note_kind(list key, x) except -1:
    """Add to a key what is to be the same in all calls; False for what no call is known with."""
    if x is None or PyLong_CheckExact(x) or type(x) is str:
        key.append(x)
    elif type(x) is bool or (PyFloat_CheckExact(x) and x):  # zeros of both signs are equal
        key.append((type(x), x))
    elif type(x) is tuple:
        for part in <tuple>x:
            if not PyLong_CheckExact(part):
                return False
        key.append(x)
    else:
        return False
    return True


cdef tuple _beside(Lists tape):
    """What the writing of nodes leaves beside them where it depends on more than their operands, and the mode."""
    return (
        tape.mode, len(tape.payloads), len(tape.linked), len(tape.shared_rows), len(tape.imports), len(tape.outside),
        len(tape.blocks), len(tape.by_array),
    )


def known_call(slow):
    """A function like this one, of the library, that does the same on all arguments of the same kinds: types of
    values; shared values; and numbers, words and tuples of integers, which are few."""
    cdef Call door = Call(slow)

    def fast(*args, **named):
        return door.call(args, named)

    return fast


def part_of_vector(lookup, slow):
    """The method of tensors for an index: slices of vectors are known calls, and elements an op of known signature."""
    cdef Call slices = Call(lambda x, start, stop, step: slow(x, slice(start, stop, step)))
    cdef Door elements = Door(lookup, slow)

    def fast(self, index):
        cdef Lists tape
        cdef Value t
        cdef Found found
        cdef int32_t id
        cdef int64_t k = 0
        if open_recording == NULL or not (type(index) is slice or PyLong_CheckExact(index)) or not _is_tensor(self):
            return slow(self, index)
        of_value = (<Value>self)._type
        if of_value.ndim != 1 or of_value.layout != 0:
            return slow(self, index)
        if type(index) is slice:
            return slices.call((self, index.start, index.stop, index.step), None)
        tape = <Lists>open_recording
        t = _here(<Value>self, tape)
        if t._tape is tape and not tape.is_aside and _is_short(index, &k) and -of_value.width <= k < of_value.width:
            if elements.find(tape, <PyObject *>t._type, _INT_RIGHT, &found):
                id = <int32_t>t._id
                return _with_integer(tape, found, &id, k if k >= 0 else k + <int64_t>of_value.width)
        return slow(self, index)

    return fast


def forward_of(function, names):
    """The method `forward` of a layer: a known call of a function on its argument and these attributes."""
    cdef Call door = Call(function)
    cdef tuple attributes = tuple(names)

    def forward(self, x):
        cdef tuple args = PyTuple_New(1 + PyTuple_GET_SIZE(attributes))
        cdef Py_ssize_t k = 0
        _set(args, 0, x)
        for name in attributes:
            k += 1
            _set(args, k, getattr(self, name))
        return door.call(args, None)

    return forward


cdef inline void _set(tuple x, Py_ssize_t k, part):
    """Fill in a part of a new tuple."""
    Py_INCREF(part)
    PyTuple_SET_ITEM(x, k, part)


# Calls of modules: `call_module`.


cdef object _in_mode = None


cdef object _call_in_mode(object self, PyObject **args, Py_ssize_t n, PyObject *names):
    """`forward` in the mode of a module that is not that of the thread, or with names."""
    cdef dict named = {}
    cdef Py_ssize_t k
    given = tuple([<object>args[k] for k in range(n)])
    for name in () if names == NULL else <tuple>names:
        named[name] = <object>args[n + len(named)]
    return _in_mode(self.training, self.forward, given, named)


def install_module(module, in_mode):
    """Let modules be called."""
    global _in_mode
    _in_mode = in_mode
    module.__call__ = method_of_modules(module, _call_in_mode)
