"""Ops whose signature is known: part of `compiled.pyx`."""


cdef struct Known:
    PyObject *first  # type of the first operand
    PyObject *second  # type of the second one; NULL: there is none; else one of those below
    int mode
    int number  # of the signature in the recording `serial`
    long serial
    PyObject *type
    PyObject *signature  # owned

cdef struct Found:
    int number
    PyObject *type

cdef PyObject *_RIGHT = <PyObject *><uintptr_t>1  # a floating number on the right
cdef PyObject *_LEFT = <PyObject *><uintptr_t>2  # on the left
cdef PyObject *_INT_RIGHT = <PyObject *><uintptr_t>3  # an integer
cdef PyObject *_INT_LEFT = <PyObject *><uintptr_t>4
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

    def __init__(self, op, slow):
        self.op, self.slow = op, slow
        self.switched = -1

    def __dealloc__(self):
        self._clear()

    cdef void _clear(self) noexcept:
        cdef Known *old = self.table
        cdef long n = self.size
        cdef long k
        self.table = NULL  # first: what is released may call this again
        self.size = self.used = 0
        for k in range(n):
            Py_XDECREF(old[k].signature)
        free(old)

    cdef Known *_at(self, PyObject *first, PyObject *second, int mode) noexcept:
        """Where these operands stand, or would."""
        cdef uintptr_t h = (<uintptr_t>first >> 4) * 31 + (<uintptr_t>second >> 4) * 17 + (<uintptr_t>second & 7) + mode
        cdef long k = <long>((h ^ (h >> 7)) & <uintptr_t>(self.size - 1))
        cdef Known *known
        while True:
            known = &self.table[k]
            if known.first == NULL or (known.first == first and known.second == second and known.mode == mode):
                return known
            k = (k + 1) & (self.size - 1)

    cdef int _grow(self) except -1:
        cdef Known *old
        cdef Known *more
        cdef long n, k
        if self.used >= _FULL:
            self._clear()
        old, n = self.table, self.size
        more = <Known *>calloc(max(16, 2 * n), sizeof(Known))
        if more == NULL:
            raise MemoryError()
        self.table, self.size = more, max(16, 2 * n)
        for k in range(n):
            if old[k].first != NULL:
                self._at(old[k].first, old[k].second, old[k].mode)[0] = old[k]
        free(old)
        return 0

    cdef bint find(self, Lists tape, PyObject *first, PyObject *second, Found *found) except -1:
        """Whether the signature of these operands is known; its number in this recording, and the type of the result.

        No pointer into the table outlives a call of Python, in which another thread may change it.
        """
        cdef Known *known
        cdef long switched = <object>PyList_GET_ITEM(_switched, 0)
        if switched != self.switched:  # some signatures have no lengths any more
            self._clear()
            self.switched = switched
        known = self._at(first, second, tape.mode) if self.size else NULL
        if known == NULL or known.first == NULL:
            return self._learn(tape, first, second, found)
        found.type, found.number = known.type, known.number
        if known.serial != tape.serial:
            found.number = tape.signature_number(<object>known.signature)
            known = self._at(first, second, tape.mode) if self.size else NULL
            if known != NULL and known.first != NULL:
                known.number, known.serial = found.number, tape.serial
        return True

    cdef bint _learn(self, Lists tape, PyObject *first, PyObject *second, Found *found) except -1:
        cdef Known *known
        cdef PyObject *before
        if second == NULL:
            key = (self.op, (), <object>first)
        elif second == _RIGHT:
            key = (self.op, (), <object>first, "f")
        elif second == _LEFT:
            key = (self.op, (), "f", <object>first)
        elif second == _INT_RIGHT:
            key = (self.op, (), <object>first, "i")
        elif second == _INT_LEFT:
            key = (self.op, (), "i", <object>first)
        else:
            key = (self.op, (), <object>first, <object>second)
        hit = _learned(tape, key)
        lasts = hit is not None
        if hit is None:
            hit = tape.cache.get(key)
            if hit is None:
                return False
        found.number, found.type = hit[0], <PyObject *>hit[1]
        if not lasts:
            return True
        signature = tape.signatures[found.number]
        if 2 * self.used >= self.size:
            self._grow()
        known = self._at(first, second, tape.mode)
        if known.first == NULL:
            self.used += 1
        before = known.signature
        Py_INCREF(signature)
        known.signature = <PyObject *>signature
        known.first, known.second, known.mode = first, second, tape.mode
        known.number, known.serial, known.type = found.number, tape.serial, found.type
        Py_XDECREF(before)
        return True


cdef inline Value _here(Value x, Lists tape):
    """The tensor of this recording that stands for one of an earlier one; else the same tensor."""
    if x._tape is tape or x._tape is None or tape.is_aside:
        return x
    known = tape.imports.get((x._tape.serial, x._id))
    return _linked(x, tape) if known is None else tape.tensor(known)


cdef Value _linked(Value x, Lists tape):
    """A value of an earlier recording as one that is read from where it lies; the same tensor where it cannot be."""
    cdef Value t
    cdef PyObject *source
    cdef PyObject *number
    cdef int64_t place_there
    old = x._tape
    if old.failed and x._id in old.failed:
        raise old.failed[x._id]
    if old.state is not _DONE and not old.is_constant:
        return x
    source = PyDict_GetItem(tape.sources, old)
    found = _source(old, x._id, tape) if source == NULL else <object>source
    if found is None:
        return x
    number = PyDict_GetItem(tape.cache, x._type)
    of_type = _payload_number(x._type, tape) if number == NULL else <object>number
    place_there, key = found, (x._tape.serial, x._id)
    _begin(tape)
    t = _write_one(tape, of_type, x._type, NULL, 0)
    _push_int(tape.linked, place_there)
    _push_int(tape.linked, x._id)
    _push_int(tape.linked, t._id)
    tape.imports[key] = t._id
    return t


def here(Value x, Lists tape):
    """See `links.local`."""
    return _here(x, tape)


cdef inline bint _is_tensor(object x):
    return <PyObject *>Py_TYPE(x) == <PyObject *>_tensor_class


cdef object _unary(Door door, x):
    cdef Lists tape
    cdef Value t
    cdef Found found
    cdef int32_t id
    if open_recording != NULL and _is_tensor(x):
        tape = <Lists>open_recording
        t = _here(<Value>x, tape)
        if t._tape is tape:
            if door.find(tape, <PyObject *>t._type, NULL, &found):
                _begin(tape)
                id = <int32_t>t._id
                return _write_one(tape, found.number, <object>found.type, &id, 1)
    return door.slow(x)


cdef object _binary(Door door, Value x, y):
    cdef Lists tape
    cdef Value t, u
    cdef Found found
    cdef int32_t ids[2]
    cdef int64_t number = 0
    if open_recording != NULL:
        tape = <Lists>open_recording
        t = _here(x, tape)
        if t._tape is tape:
            ids[0] = <int32_t>t._id
            if _is_tensor(y):
                u = _here(<Value>y, tape)
                if u._tape is tape:
                    if door.find(tape, <PyObject *>t._type, <PyObject *>u._type, &found):
                        _begin(tape)
                        ids[1] = <int32_t>u._id
                        return _write_one(tape, found.number, <object>found.type, ids, 2)
            elif PyFloat_CheckExact(y):
                if door.find(tape, <PyObject *>t._type, _RIGHT, &found):
                    return _with_number(tape, found, ids, PyFloat_AS_DOUBLE(y))
            elif PyLong_CheckExact(y):
                if _is_short(y, &number) and door.find(tape, <PyObject *>t._type, _INT_RIGHT, &found):
                    return _with_integer(tape, found, ids, number)
            elif type(y) in _shared_classes:
                hit = _with_shared(tape, (door.op, (), t._type, y))
                if hit is not None:
                    _begin(tape)
                    return _write_one(tape, hit[0], hit[1], ids, 1)
    return door.slow(x, y)


cdef inline object _operator(Door door, Door reflected, left, right):
    """left op right, of which one is a tensor."""
    if _is_tensor(left) or isinstance(left, Value):
        return _binary(door, <Value>left, right)
    return _reflected(reflected, <Value>right, left)


cdef object _reflected(Door door, Value x, y):
    """y op x."""
    cdef Lists tape
    cdef Value t
    cdef Found found
    cdef int32_t id
    cdef int64_t number = 0
    if open_recording != NULL and (PyFloat_CheckExact(y) or PyLong_CheckExact(y)):
        tape = <Lists>open_recording
        t = _here(x, tape)
        if t._tape is tape:
            id = <int32_t>t._id
            if PyFloat_CheckExact(y):
                if door.find(tape, <PyObject *>t._type, _LEFT, &found):
                    return _with_number(tape, found, &id, PyFloat_AS_DOUBLE(y))
            elif _is_short(y, &number) and door.find(tape, <PyObject *>t._type, _INT_LEFT, &found):
                return _with_integer(tape, found, &id, number)
    return door.slow(x, y)


cdef inline object _younger(one, other):
    """The shared value that was made later; one may be None."""
    return other if one is None or other._age > one._age else one


cdef dict _lasting = {}


cdef inline object _with_shared(Lists tape, tuple key):
    """Number and type of the result that this recording has under a key, of which parts may be shared operands; None
    where no recording had it."""
    cdef PyObject *known = PyDict_GetItem(tape.cache, key)
    return _from_others(tape, key) if known == NULL else <object>known


cdef object _from_others(Lists tape, tuple key):
    """What this recording has under a key from now on, if others have had it; else None.

    That lasts with the youngest of the shared operands.
    """
    cdef dict known = _lasting
    cdef list lasting = [key[0], key[1], tape.mode]
    cdef Py_ssize_t k
    cdef PyObject *hit
    youngest = None
    for k in range(2, len(key)):
        x = <object>PyTuple_GET_ITEM(key, k)
        if type(x) in _shared_classes:
            x = x.operand
            if x is None:
                return None
            youngest = _younger(youngest, x)
        lasting.append(x)
    if youngest is not None:
        known = youngest._signatures
    whole = tuple(lasting)
    hit = PyDict_GetItem(known, whole)
    if hit != NULL and <object>PyTuple_GET_ITEM(<object>hit, 0) == <object>PyList_GET_ITEM(_switched, 0):
        entry = <object>hit
        found = tape.signature_number(entry[1]), entry[2]
        tape.cache[key] = found
        return found
    switched = _switched[0]
    found = _learned(tape, key)
    if found is not None:
        if known is _lasting and len(_lasting) >= _FULL:
            _lasting.clear()
        known[whole] = switched, tape.signatures[found[0]], found[1]
    return found


cdef inline bint _is_short(x, int64_t *number):
    """Whether an integer has 32 bits, as those of every dtype."""
    cdef int overflows = 0
    number[0] = PyLong_AsLongLongAndOverflow(x, &overflows)
    return not overflows and -(1 << 31) <= number[0] < 1 << 31


cdef inline Value _with_integer(Lists tape, Found found, int32_t *id, int64_t number):
    cdef Value t
    _begin(tape)
    t = _write_one(tape, found.number, <object>found.type, id, 1)
    _push_int(tape.ints, number)
    return t


cdef inline Value _with_number(Lists tape, Found found, int32_t *id, double number):
    cdef Value t
    _begin(tape)
    t = _write_one(tape, found.number, <object>found.type, id, 1)
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


cdef object _row(table, index):
    """The row at an index of a table of which this recording knows rows; else None."""
    cdef Lists tape
    cdef PyObject *hit
    cdef Value t
    cdef int64_t k
    cdef int overflows = 0
    if open_recording == NULL or not PyLong_CheckExact(index):
        return None
    tape = <Lists>open_recording
    hit = PyDict_GetItem(tape.cache, table) if tape.n >= 0 and not tape.is_aside else NULL
    if hit == NULL:
        return None
    known = <tuple>hit
    k = PyLong_AsLongLongAndOverflow(index, &overflows)
    if overflows or not 0 <= k < known[2]:
        return None
    _begin(tape)
    t = _write_one(tape, known[0], known[1], NULL, 0)
    _push_int(tape.ints, k)
    return t


def row(slow):
    """The method of a shared table for the row at an index."""

    def fast(self, index):
        t = _row(self, index)
        return slow(self, index) if t is None else t

    return fast


def row_of(name, slow):
    """The method of a layer for the row at an index of a table, which is this attribute."""

    def fast(self, index):
        table = getattr(self, name)
        t = _row(table, index) if type(table) in _shared_classes else None
        return slow(self, index) if t is None else t

    return fast


def view(Value t, ints, how, type):
    """Rows of a tensor as a value of this type, where this recording knows such views; else None. See `views`."""
    cdef Lists tape
    cdef PyObject *number
    cdef Value made
    cdef array.array more
    cdef int32_t id
    if open_recording == NULL:
        return None
    tape = <Lists>open_recording
    if t._tape is not tape or tape.mode & 1:
        return None
    number = PyDict_GetItem(tape.cache, (how, t._type))
    if number == NULL:
        return None
    more = _array.array("q", ints)
    _begin(tape)
    id = <int32_t>t._id
    made = _write_one(tape, <object>number, type, &id, 1)
    _extend(tape.ints, more)
    return made


def record_known(op, operands, attrs):
    """Write an op whose signature is known, on tensors, shared values and numbers; None where it is another case."""
    cdef Lists tape
    cdef Value t
    cdef tuple values = tuple(operands)
    cdef Py_ssize_t n = PyTuple_GET_SIZE(values)
    cdef int32_t ids[MOST]
    cdef int64_t ints[MOST]
    cdef double floats[MOST]
    cdef int n_ids = 0, n_ints = 0, n_floats = 0
    cdef Py_ssize_t k
    if open_recording == NULL or n > MOST:
        return None
    tape = <Lists>open_recording
    key = [op, attrs]
    for k in range(n):
        x = <object>PyTuple_GET_ITEM(values, k)
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
            if not _is_short(x, &ints[n_ints]):
                return None
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


def record_known_list(kind, values):
    """Write a reduction of a list of tensors of one type; None where they are anything else."""
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
    if k != n + 1:
        return None
    hit = tape.cache.get(("list", kind, type))
    if hit is None:
        hit = _learned_list(tape, kind, type)
    _begin(tape)
    return _write_one(tape, hit[0], hit[1], <int32_t *>ids.data.as_ints, <int>(n + 1))
