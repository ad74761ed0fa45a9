# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disks that a recorded run could have left at a power cut, and what must hold of each.

The durable disk is a file that follows the log flush by flush. A state is that disk and some of the writes behind the last flush, laid
over it in memory: only what is looked at is read. What was read once and has not changed is not read again.
"""

import hashlib
import mmap
import os
import random
import tempfile

import datapart
import fat
import reader
import writelog

STAMP = 1 << 20


class Disk:
    """The durable disk: follows the log."""

    def __init__(self, image, log):
        self.image, self.log_file = open(image, 'r+b'), open(log, 'rb')
        self.map = mmap.mmap(self.image.fileno(), 0)
        self.log = mmap.mmap(self.log_file.fileno(), 0, access=mmap.ACCESS_READ) if os.path.getsize(log) else None
        self.size = len(self.map)
        self.stamps = [0] * (self.size // STAMP + 1)
        self.used = {at // STAMP for first, last in _data(self.image.fileno(), self.size)
                     for at in range(first - first % STAMP, last, STAMP)}

    def close(self):
        self.map.close()
        if self.log:
            self.log.close()
        self.image.close()
        self.log_file.close()

    def advance(self, writes):
        for write in writes:
            at, size = write.sector * 512, write.count * 512
            self.map[at:at + size] = self.log[write.offset:write.offset + size]
            for number in range(at // STAMP, (at + size - 1) // STAMP + 1):
                self.stamps[number] += 1
                self.used.add(number)


def _data(descriptor, size):
    """The parts of a sparse file that are no holes."""
    at = 0
    while at < size:
        try:
            first = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            return
        at = os.lseek(descriptor, first, os.SEEK_HOLE)
        yield first, at


class State:
    """The durable disk with some writes over it."""

    def __init__(self, disk, writes=()):
        self.disk, self.writes = disk, list(writes)
        self.places = [(write.sector * 512, (write.sector + write.count) * 512, write) for write in self.writes]

    def read(self, offset, size):
        over = [place for place in self.places if place[0] < offset + size and place[1] > offset]
        if not over:
            return self.disk.map[offset:offset + size]
        data = bytearray(self.disk.map[offset:offset + size])
        for first, last, write in over:
            low, high = max(first, offset), min(last, offset + size)
            source = write.offset + low - first
            data[low - offset:high - offset] = self.disk.log[source:source + high - low]
        return bytes(data)

    def mark(self, offset, size):
        """Equal marks: equal content."""
        stamps = self.disk.stamps[offset // STAMP:(offset + size - 1) // STAMP + 1]
        over = tuple((write.sector, write.count, write.offset) for first, last, write in self.places
                     if first < offset + size and last > offset)
        return offset, size, tuple(stamps), over

    def save(self, path):
        """As a sparse file of its own."""
        with open(path, 'wb') as target:
            target.truncate(self.disk.size)
            for number in sorted(self.disk.used):
                os.pwrite(target.fileno(), self.disk.map[number * STAMP:(number + 1) * STAMP], number * STAMP)
            for first, _, write in self.places:
                os.pwrite(target.fileno(), self.disk.log[write.offset:write.offset + write.count * 512], first)


def _pieces(state):
    return {at // STAMP for first, last, _ in state.places for at in range(first - first % STAMP, last, STAMP)}


class Copy:
    """One partition of a state as a file that programs may change: only what differs is written again. In memory, where that can be."""

    def __init__(self, part):
        self.part = part
        self.directory = tempfile.TemporaryDirectory(prefix='bootmgr-state-', dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None)
        self.path = os.path.join(self.directory.name, 'data.img')
        self.file = open(self.path, 'w+b')
        self.file.truncate(part.size)
        self.map = mmap.mmap(self.file.fileno(), 0)

    def become(self, state):
        for number in sorted(state.disk.used | _pieces(state) | self._pieces_here()):
            low = max(number * STAMP, self.part.offset)
            high = min((number + 1) * STAMP, self.part.offset + self.part.size)
            if low < high:
                wanted, at = state.read(low, high - low), low - self.part.offset
                if self.map[at:at + high - low] != wanted:
                    self.map[at:at + high - low] = wanted

    def _pieces_here(self):
        """Those that a program has written since, too."""
        return {(self.part.offset + at) // STAMP for first, last in _data(self.file.fileno(), self.part.size)
                for at in (*range(first, last, STAMP), last - 1)}

    def close(self):
        self.map.close()
        self.file.close()
        self.directory.cleanup()


def sampled(pending, rng, most):
    """At most so many different selections of the writes since the last flush: all of them if these are few; else prefixes, one left out,
    one alone, and random ones, some of them torn. Never none: that is the durable disk itself; never all: that is the next one."""
    seen = {(), _key(pending)}
    for kept in _selections(pending, rng, most):
        if _key(kept) not in seen:
            seen.add(_key(kept))
            yield kept
        if len(seen) - 2 >= most:
            return


def _torn(pending, superblock):
    """The writes up to one of the superblock, and of that each half alone."""
    for i, write in enumerate(pending):
        middle = superblock + 1 - write.sector
        if 0 < middle < write.count:
            yield pending[:i] + [write.part(0, middle)]
            yield pending[:i] + [write.part(middle, write.count)]


def _key(selection):
    return tuple((write.sector, write.count, write.offset) for write in selection)


def _selections(pending, rng, most):
    count = len(pending)
    if 2 ** count - 2 <= most // 2:
        yield from ([write for i, write in enumerate(pending) if choice >> i & 1] for choice in range(1, 2 ** count - 1))
    else:
        each = max(most // 4, 1)
        chosen = [pending[:i] for i in rng.sample(range(1, count), min(each, count - 1))]
        chosen += [pending[:i] + pending[i + 1:] for i in rng.sample(range(count), min(each, count))]
        chosen += [[pending[i]] for i in rng.sample(range(count), min(each, count))]
        yield from rng.sample(chosen, min(most, len(chosen)))
    for _ in range(2 * most if pending else 0):
        yield writelog.survivors(pending, rng)[0]


class Judge:
    """What must hold of every state. `versions`: version -> (format of its settings, SHA-256 of its root image)."""

    def __init__(self, versions):
        self.versions = versions
        self.digests, self.verdicts = {}, {}
        self.generation = self.data_checks = self.torn = 0
        self.copy = None
        self.may_be_empty = False       # until the appliance's first settings are flushed: it does not see to that itself

    def close(self):
        if self.copy:
            self.copy.close()

    def verdict(self, state, record_may_be_lost=False):
        """(the entry that systemd-boot would start, its version, [what is wrong])"""
        wrong = []
        entry = version = None
        try:
            parts = reader.partitions(state.read, state.disk.size)
            record = reader.record(state.read, parts['bootmgr-state'])
            esp = parts['esp']
            system = fat.Fat(lambda at, size: state.read(esp.offset + at, size))
            order = reader.entries(system)
            if not record and not record_may_be_lost:
                wrong.append('no copy of the record is valid')
            if not order:
                raise reader.ReadError('there is no entry that could be started')
            entry = order[0]
            version = self._look(state, parts, record, system, order, wrong)
        except (reader.ReadError, fat.FatError, datapart.DataError, KeyError) as error:
            wrong.append('%s: %s' % (type(error).__name__, error))
        return entry, version, wrong

    def _look(self, state, parts, record, system, order, wrong):
        whole = {entry.name: self._whole(state, parts, record, system, entry) for entry in self._of_interest(order)}
        entry = order[0]
        version, why = whole[entry.name]
        if why:
            wrong.append('%s would be started, and %s' % (entry.name, why))
        fallback = next((entry for entry in order if entry.confirmed and not whole[entry.name][1]), None)
        if not fallback:
            wrong.append('there is no fallback: %s' % '; '.join('%s: %s' % (name, why) for name, (_, why) in whole.items()))
        if record:
            generation = max(record.generation, *(entry.generation for entry in order))
            if generation < self.generation:
                wrong.append('the generation went from %d to %d' % (self.generation, generation))
            for one in self._of_interest(order):
                if one.slot and not whole[one.name][1]:
                    wrong += self._configuration(state, parts['data'], record, one, whole[one.name][0])
        return version

    @staticmethod
    def _of_interest(order):
        """The first, and of those that are not on trial the first of each slot."""
        seen, result = set(), [order[0]]
        for entry in order:
            if entry.confirmed and entry.slot not in seen:
                seen.add(entry.slot)
                if entry is not order[0]:
                    result.append(entry)
        return result

    def advance(self, state):
        """That state is durable: no later one may have a lower generation."""
        parts = reader.partitions(state.read, state.disk.size)
        record = reader.record(state.read, parts['bootmgr-state'])
        self.generation = max(self.generation, record.generation if record else 0)

    # --- content ------------------------------------------------------------------------------------------------------------

    def _whole(self, state, parts, record, system, entry):
        """(its version, why it cannot run or None)"""
        version = entry.key('title').partition(' ')[0]
        if not entry.slot or version not in self.versions:
            return version, 'it is none of ours: %s' % entry.keys
        root = parts.get('root-' + entry.slot)
        if not root or entry.options.get('root', '').lower() != 'partuuid=%s' % root.unique:
            return version, 'its root is %s' % entry.options.get('root')
        if record and record.slots[entry.slot].state in ('empty', 'incomplete'):
            return version, 'slot %s is %s' % (entry.slot, record.slots[entry.slot].state)
        if 'gpt' not in entry.options or entry.options.get('bootmgr.generation') != str(entry.generation):
            return version, 'its command line is %s' % entry.options
        for path in (entry.key('linux'), entry.key('initrd')):
            file = system.find(path) if path else None
            if not file:
                return version, '%s is missing' % path
            digest = self._digest(state, parts['esp'], system.extents(file.cluster, file.size), file.size)
            if path.rpartition('/')[2] != digest[:30] + '0' + entry.slot:
                return version, '%s is damaged' % path
        if self._digest(state, root, [(0, root.size)], root.size) != self.versions[version][1]:
            return version, 'the root in slot %s is not that of version %s' % (entry.slot, version)
        return version, None

    def _digest(self, state, part, extents, size):
        key = (size, tuple(state.mark(part.offset + at, length) for at, length in extents))
        if key not in self.digests:
            digest = hashlib.sha256()
            for at, length in extents:
                length = min(length, size)
                size -= length
                for first in range(0, length, STAMP):
                    digest.update(state.read(part.offset + at + first, min(STAMP, length - first)))
            self.digests[key] = digest.hexdigest()
        return self.digests[key]

    # --- configuration ------------------------------------------------------------------------------------------------------

    def _configuration(self, state, part, record, entry, version):
        """The owner rule, by docs/formats.md: what shared configuration would that entry's version run with?"""
        slot = record.slots[entry.slot]
        mark = state.mark(part.offset, part.size)
        key = (mark, entry.slot, version, slot.snapshot, slot.digest)
        if key not in self.verdicts:
            self.verdicts[key] = self._owner_rule(self._data(state, part, mark), slot, entry, version)
        return self.verdicts[key]

    def _data(self, state, part, mark):
        if mark not in self.verdicts:
            self.copy = self.copy or Copy(part)
            self.copy.become(state)
            self.verdicts[mark] = datapart.Data(self.copy.path, self.copy.directory.name)
            self.data_checks += 1
            self.torn += self.verdicts[mark].torn
        return self.verdicts[mark]

    def _owner_rule(self, data, slot, entry, version):
        form, owner = self.versions[version][0], data.owner
        phase = owner.get('phase')
        before = '%s would run with ' % entry.name
        # A record that was made again in the initramfs knows the entries only: the boot completes it before its owner rule.
        snapshot = slot.snapshot if any(slot.snapshot) or any(slot.digest) else data.newest_seal(entry.slot, version)
        if phase is None or phase == 'owned' and (owner['slot'], owner['version']) == (entry.slot, version):
            kept = datapart.form(None if self.may_be_empty and data.settings == b'' else data.settings)
            return [before + 'settings in format %d' % kept] if kept not in (0, form) else []
        if snapshot and any(snapshot):
            kept = datapart.form(data.snapshot(snapshot))
            return [before + 'a snapshot in format %d' % kept] if kept not in (0, form) else []
        if phase == 'owned':
            kept = datapart.form(data.settings)
        else:
            former = bytes.fromhex(owner.get('from-snapshot', ''))
            kept = datapart.form(data.snapshot(former)) if any(former) else datapart.form(data.settings)
        if slot.state not in ('trial', 'installed') and kept != form:
            return [before + 'the settings of version %s, in format %d; it is %s' % (owner['version'], kept, slot.state)]
        return [before + 'settings in format %d, which it cannot migrate' % kept] if not 0 <= kept <= form else []


class Replay:
    """Goes through a log. The image follows it: at the end it is what is durable."""

    def __init__(self, image, log, seed):
        self.disk, self.epochs, self.seed = Disk(image, log), writelog.epochs(log), seed

    def close(self):
        self.disk.close()

    def partitions(self):
        return reader.partitions(State(self.disk).read, self.disk.size)

    def plan(self, share, flushed=1.0):
        """Yields (number of the epoch, where, the writes of it that are kept, whether that is a durable disk). `share(pending)`: how many
        selections of what is not flushed are looked at; `flushed`: of how many flushes the disk as it was then. With all of them, the
        superblock of the data partition is torn in both ways wherever it is written: nothing else there lies in two sectors and must
        be right before the journal is looked at."""
        superblock = (self.partitions()['data'].offset + datapart.SUPERBLOCK) // 512
        for number, pending in enumerate(self.epochs):
            rng = random.Random('%s %d' % (self.seed, number))
            if rng.random() < flushed:
                yield number, 'flush %d' % number, [], True
            for i, kept in enumerate(sampled(pending, rng, share(pending))):
                yield number, 'flush %d, selection %d of its %d writes' % (number, i, len(pending)), kept, False
            for i, kept in enumerate(_torn(pending, superblock) if flushed >= 1 else ()):
                yield number, 'flush %d, tear %d of the superblock of data' % (number, i), kept, False

    def states(self, share, flushed=1.0):
        """The plan, carried out: (number of the epoch, where, State, whether it is durable)."""
        reached = 0
        for number, where, kept, durable in self.plan(share, flushed):
            while reached < number:
                self.disk.advance(self.epochs[reached])
                reached += 1
            yield number, where, State(self.disk, kept), durable
        for pending in self.epochs[reached:-1]:
            self.disk.advance(pending)

    def finish(self):
        """Only the disk that is durable at the end."""
        for pending in self.epochs[:-1]:
            self.disk.advance(pending)
