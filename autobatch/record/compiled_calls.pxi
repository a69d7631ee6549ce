"""Calls of functions of the library that write the same nodes on all arguments of some kinds: part of `compiled.pyx`."""


cdef enum:
    _MANY = 64  # most operands of all nodes of a call
    _LIST_SLOT = 1
    _CONSTANT = 1 << 28  # from here on an operand is a number as it is: the length of a list


cdef class Script:
    """The nodes that a call writes.

    signatures, types: of its nodes, and of their values
    counts: of each node how many values, operands, integers and other numbers it has
    operands: the number of an argument; -1, -2, … for the first value, the second, …; or a constant
    results: number of the value that the call returns, or a list of such
    """

    cdef long switched, serial
    cdef list signatures, types
    cdef array.array counts, operands, ints, floats, numbers
    cdef object results

    cdef object replay(self, Lists tape, int32_t *arguments):
        cdef int32_t own[_MANY]
        cdef int32_t numbers[_MANY]
        cdef list made = []
        cdef Py_ssize_t n_nodes = PyList_GET_SIZE(self.signatures), k, j
        cdef int place, operand
        cdef int *counts = self.counts.data.as_ints
        cdef int *operands = self.operands.data.as_ints
        cdef int64_t *ints = <int64_t *>self.ints.data.as_longlongs
        cdef double *floats = self.floats.data.as_doubles
        cdef long first
        cdef bint is_first
        if self.serial == tape.serial:
            memcpy(numbers, self.numbers.data.as_ints, n_nodes * sizeof(int32_t))
        else:
            for k in range(n_nodes):
                numbers[k] = tape.signature_number(<object>PyList_GET_ITEM(self.signatures, k))
            memcpy(self.numbers.data.as_ints, numbers, n_nodes * sizeof(int32_t))
            self.serial = tape.serial
        _begin(tape)
        for of_value in self.types:
            made.append(_new_tensor(tape, of_value))
        place = _place(tape)
        # From here on nothing is made.
        _go_on(tape)
        tape._reserve(tape.n + PyList_GET_SIZE(made))
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
                _put_value(tape, <Value>PyList_GET_ITEM(made, tape.n - first))
            operands, ints, floats, counts = operands + counts[1], ints + counts[2], floats + counts[3], counts + 4
        if type(self.results) is int:
            return made[self.results]
        return [made[k] for k in self.results]


cdef Script _script(Lists tape, array.array log, int32_t *arguments, int n_arguments, object results):
    """What was written since the log was begun; None where a call on other arguments of these kinds may write else."""
    cdef Script script = Script()
    cdef list operands = [], types = []
    cdef array.array counts = _array.array("i")
    cdef Py_ssize_t n_nodes = log.ob_size // 4, k, at, end
    cdef int64_t *of = <int64_t *>log.data.as_longlongs
    cdef long first, n_values
    cdef int j, length
    cdef dict places = {}
    if not 0 < n_nodes <= 16:
        return None
    first, n_values = of[1], tape.n - of[1]
    for j in range(n_arguments):
        if arguments[j] in places:  # which of the two is an operand cannot be told
            return None
        places[arguments[j]] = j
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
        if not _is_tensor(x) or (<Value>x)._tape is not tape or (<Value>x)._id < first:
            return None
        found.append((<Value>x)._id - first)
    script.results = found if type(results) is list else found[0]
    script.types, script.counts = types, counts
    script.operands, script.numbers = _array.array("i", operands), _array.array("i", [0] * n_nodes)
    script.ints, script.floats = tape.ints[of[2]:], tape.floats[of[3]:]
    script.serial = -1
    script.switched = _switched[0]
    return script


cdef class Call:
    """A function, and what it writes on arguments of which kinds; with shared ones that is kept with the youngest."""

    cdef object slow
    cdef dict known

    def __init__(self, slow):
        self.slow, self.known = slow, {}

    cdef object call(self, tuple args, dict named):
        cdef Lists tape
        cdef int32_t ids[MOST]
        cdef int n_ids = 0
        cdef list key
        cdef PyObject *hit
        cdef Script script
        cdef dict known = self.known
        if open_recording == NULL:
            return self.slow(*args, **named)
        tape = <Lists>open_recording
        if tape.n < 0 or tape.is_aside or len(args) + len(named) > MOST:
            return self.slow(*args, **named)
        key = [self, tape.mode, len(args)]  # by which a name is told from a word
        youngest = None
        for x in args:
            if _is_tensor(x):
                x = _here(<Value>x, tape)
                if (<Value>x)._tape is not tape:
                    return self.slow(*args, **named)
                ids[n_ids] = <int32_t>(<Value>x)._id
                n_ids += 1
                key.append((<Value>x)._type)
                if tape.mode & 1:
                    key.append((<Value>x)._id >= tape.frozen_from)
            elif type(x) in _shared_classes:
                x = x.operand
                if x is None:
                    return self.slow(*args, **named)
                youngest = _younger(youngest, x)
                key.append(x)
            elif not _note_kind(key, x):
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
            script = <Script>hit
            if script.switched == <long>_switched[0]:
                return script.replay(tape, ids)
        if tape.log is not None:  # a call in another one
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
            script = _script(tape, log, ids, n_ids, results)
            if script is not None:
                if known is self.known and len(known) >= _FULL:
                    known.clear()
                known[key] = script
        return results


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
