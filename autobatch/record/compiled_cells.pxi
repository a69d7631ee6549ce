"""Calls of cells: part of `compiled.pyx`."""


cdef enum:
    _OWN = 64  # operands of a call that need no memory from the heap

cdef object _MISS = object()


cdef enum:
    _SELF, _TENSOR, _SHARED, _INT, _FLOAT, _TUPLE, _LIST, _EMPTY, _BOOL, _STR, _NONE

_KINDS = {
    "self": _SELF, "T": _TENSOR, "P": _SHARED, "i": _INT, "f": _FLOAT, "tuple": _TUPLE, "list": _LIST, "empty": _EMPTY
}
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
            elif kind == _SHARED:
                operand = x.operand if type(x) in _shared_classes else None
                if operand is None:
                    return _MISS
                keys[n_keys] = <PyObject *>operand  # x has it
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
        if PyTuple_GET_ITEM(hit, 1) != PyList_GET_ITEM(_epoch, 0):
            if <object>PyTuple_GET_ITEM(hit, 1) != <object>PyList_GET_ITEM(_epoch, 0):
                return _MISS
        facts = <object>PyTuple_GET_ITEM(hit, 2)
        if facts is not None and not _same(*facts):
            return _MISS
        if not self.is_method and <object>PyTuple_GET_ITEM(hit, 4) is not (True if is_training else False):
            return _MISS
        if <object>PyTuple_GET_ITEM(hit, 3) is not None:
            limits = <tuple>PyTuple_GET_ITEM(hit, 3)
            for k in range(n_numbers):
                if not (0 <= numbers[k] < limits[k] or limits[n_numbers + k] <= numbers[k] < 0):
                    _out_of_range(numbers[k], limits[k], limits[n_numbers + k])
        if not n_ids and (tape.n < 0 or tape.is_aside):
            return _MISS
        results = self._write(
            tape, <object>PyTuple_GET_ITEM(hit, 0), hit, 5 + n_keys, ids, n_ids, ints, n_ints, floats, n_floats
        )
        if self.results == 0:
            return results[0]
        return results if self.results is None else _filled(self.results, results)

    cdef object _found(self, Lists tape, tuple args, PyObject **keys, int n_keys):
        """What is known of calls with these types and this owner; None where nothing is."""
        cdef list key = [self.token]
        cdef int k = 0, j
        for j in range(self.n_parts):
            if self.kinds[j] == _SELF or self.kinds[j] == _SHARED:
                key.append(id(<object>keys[k]))
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

    cdef tuple _write(
        self, Lists tape, int number, tuple hit, int first_type, int32_t *ids, int n_ids, int64_t *ints, int n_ints,
        double *floats, int n_floats
    ):
        cdef int place, k
        cdef Value t
        cdef tuple results = PyTuple_New(self.n_results)
        _begin(tape)
        for k in range(self.n_results):
            t = _new_tensor(tape, <object>PyTuple_GET_ITEM(hit, first_type + k))
            Py_INCREF(t)
            PyTuple_SET_ITEM(results, k, t)
        place = _place(tape)
        # From here on nothing is made.
        _go_on(tape)
        tape._reserve(tape.n + self.n_results)
        _put_node(tape, number, ids, n_ids, place)
        for k in range(n_ints):
            _push_int(tape.ints, ints[k])
        for k in range(n_floats):
            _push_float(tape.floats, floats[k])
        for k in range(self.n_results):
            if k:
                _push(tape.beyond, <int32_t>(tape.n - 1))
            _put_value(tape, <Value>PyTuple_GET_ITEM(results, k))
        return results


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
        place of the dict and a function that gives the value in place of the name; (function, None, its code, False)
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
            if name is None:
                if PyFunction_GetCode(holder) != <PyObject *>known:
                    return True
            elif holder is None:
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
        if open_recording == NULL and self.paths:  # as at the beginning of a phase
            _open()
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


cdef object _open = None
cdef object _row_of = None
cdef list _epoch = [0]
cdef object _same = None
cdef object _out_of_range = None


def install_cells(open, row_of, epoch, same, out_of_range):
    """Take what calls of cells need of modules that need this one."""
    global _open, _row_of, _epoch, _same, _out_of_range
    _open, _row_of, _epoch, _same, _out_of_range = open, row_of, epoch, same, out_of_range
