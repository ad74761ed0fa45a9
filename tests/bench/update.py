# SPDX-License-Identifier: LGPL-2.1-or-later
"""An update after real security updates: version 1 runs in slot a, version 2 goes into slot b, from a file and over HTTP."""

import contextlib
import os
import shutil
import statistics
import sys

import fetched
import successive
from installers import IN_SLOT_A, Bootmgr
from measure import MIB, Loop, Measure, differing_bytes, launched, run
from netns import Link, Server

RATE = 100                      # Mbit/s
# What version 2 finds. All of it is there to be hashed: nothing is believed.
STATES = {'full': 'nothing to reuse', 'empty': 'version 1 in a', 'before': 'version 1 in a and b', 'delta': 'a delta, version 1 in a'}
REUSED = 'empty', 'before'      # what the figures are of; the others stand beside them


class Pair:
    """Two successive images, their bundles, and a machine with two slots."""

    def __init__(self, work, name, stack):
        os.makedirs(fetched.WORK, exist_ok=True)
        self.name = name
        self.images = [successive.image(name, tree, 512, fetched.WORK) for tree in (successive.before(), successive.after())]
        where = os.path.join(work, name)
        os.makedirs(where, exist_ok=True)
        size = -(-max(map(os.path.getsize, self.images)) // MIB) * MIB
        self.loops = []
        for slot in 'a', 'b':
            self.loops.append(Loop(os.path.join(where, slot + '.img'), size))
            stack.callback(self.loops[-1].close)
        self.machine = Bootmgr(where, self.loops)
        self.bundles = [self.machine.bundle(image, str(version)) for version, image in enumerate(self.images, 1)]
        self.machine.reset()
        for loop in self.loops:
            loop.clear()
        self.machine.upgrade(self.bundles[0], '--no-read-back')
        if not self.loops[0].holds(self.images[0]):
            sys.exit('version 1 is not in slot a')
        self.machine.runs_a()
        self.saved = self.machine.save('saved')
        self.state = None       # the one that was prepared last
        self.differ = {'full': differing_bytes(None, self.images[1]), 'before': differing_bytes(*self.images)}
        self.differ['empty'] = self.differ['delta'] = self.differ['full']

    def make_delta(self):
        path = os.path.join(self.machine.work, '2.delta')
        if not os.path.exists(path):
            run(self.machine.program, 'bundle', 'delta', '-q', '--from', *self.bundles, path + '.part')
            os.rename(path + '.part', path)

    def prepare(self, state):
        self.machine.reset(self.saved)
        self.machine.cmdline = IN_SLOT_A
        known = os.path.join(self.machine.work, 'data', 'slots')
        if state == 'before':
            self.loops[1].fill(self.images[0])
            shutil.copytree(os.path.join(known, 'a'), os.path.join(known, 'b'))
        else:
            self.loops[1].clear()
        if state == 'full':
            shutil.rmtree(known)
            self.loops[0].clear()   # without its index it would be found all the same
        elif self.state == 'full':
            self.loops[0].fill(self.images[0])
        self.state = state

    def install(self, state, measure, server=None):
        self.prepare(state)
        name = '2.delta' if state == 'delta' else '2.bundle'
        bundle, inside = (server.url(name), server.link.machine) if server else (os.path.join(self.machine.work, name), ())
        mark = server.mark() if server else 0
        measure.add(self.loops[1], lambda: self.machine.upgrade(bundle, '--no-read-back', inside=inside), self.machine.fetched)
        if len(measure.seconds) == 1 and not self.loops[1].holds(self.images[1]):
            sys.exit('version 2 is not in slot b')
        if server:
            sent, requests, _ = server.sent(mark)
            if sent != measure.fetched[-1]:
                print('the server sent %d bytes in %d answers, bootmgr says %d' % (sent, requests, measure.fetched[-1]), flush=True)
            measure.fetched[-1] = max(sent, measure.fetched[-1])

    def write_alone(self, measure):
        """So many bytes as a full install writes, by one program that reads, decodes and hashes nothing."""
        loop = self.loops[1]
        loop.clear()
        count = 'count=%d' % (self.differ['full'] // MIB)
        write = 'dd', 'if=/dev/zero', 'of=' + loop.device, 'bs=1M', count, 'oflag=direct', 'conv=fsync'
        measure.add(loop, lambda: launched(*write), lambda: 0)
        self.state = 'full'     # what was prepared is gone

    def written_vs_differ(self, measures):
        """measures: by state. What it keeps in files of its own counts as written, what it zeroes without writing does not."""
        return max(max(measures[state].written) / self.differ[state] for state in REUSED)


def measure_times(pair, runs):
    """By way and state: from a file, and over the link; and of what no way can do without."""
    measures, alone = {way: {state: Measure() for state in STATES} for way in ('file', 'link')}, Measure()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(stack.enter_context(Link(RATE)), pair.machine.work))
        for number in range(runs):
            for state in STATES:
                pair.install(state, measures['file'][state])
                pair.install(state, measures['link'][state], server)
            pair.write_alone(alone)
            print('update: run %d of %d' % (number + 1, runs), flush=True)
    return measures, alone


def others(old, new):
    """What the others fetch of the same pair, with their indexes; of casync's average sizes the one that fetches least."""
    rows = {'rauc': [fetched.rauc(old, new)], 'casync': [fetched.casync(old, new, size) for size in fetched.CASYNC],
            'zchunk': [fetched.zchunk(old, new)]}
    return {name: min(row['fetched'] + row['index'] for row in found) for name, found in rows.items()}


def against_full(measures, states):
    """The slowest of them."""
    return round(max(measures[state].median() for state in states) / measures['full'].median(), 3)


def written_elsewhere(work, name):
    """The same once for an image of another kind."""
    with contextlib.ExitStack() as stack:
        pair = Pair(work, name, stack)
        measures = {state: Measure() for state in REUSED}
        for state, measure in measures.items():
            pair.install(state, measure)
            print(measure.row('%s: %s' % (name, STATES[state])), ' %.1f MiB differ' % (pair.differ[state] / MIB), flush=True)
        return pair.written_vs_differ(measures)


def measure_update(work, runs):
    """Figures, and every peak of memory in MiB."""
    with contextlib.ExitStack() as stack:
        pair = Pair(work, 'ext4', stack)
        pair.make_delta()
        measures, alone = measure_times(pair, runs)
        print('\nA security update (ext4, no read-back); MiB\n' + Measure.HEAD)
        for way, by_state in measures.items():
            for state, measure in by_state.items():
                print(measure.row('%s: %s' % ('file' if way == 'file' else '%d Mbit/s' % RATE, STATES[state])),
                      ' %.1f MiB differ' % (pair.differ[state] / MIB))
        print(alone.row('writing as much, alone (dd)'))
        print('That is %.3f of a full install from a file, whatever is reused; of an update %.3f.' % (
            alone.median() / measures['file']['full'].median(), alone.median() / max(measures['file'][state].median() for state in REUSED)))
        bytes_of = {state: statistics.median(measure.fetched) for state, measure in measures['link'].items()}
        print('Over the link %.3f of the bytes of a full install are fetched, with a delta %.3f: the time cannot be less.' % (
            max(bytes_of[state] for state in REUSED) / bytes_of['full'], bytes_of['delta'] / bytes_of['full']))
        print('The time of a delta is %.3f of it from a file, %.3f over the link.' % (
            against_full(measures['file'], ['delta']), against_full(measures['link'], ['delta'])), flush=True)
        rivals = others(*pair.images)
        figures = {'update_fetched': max(int(statistics.median(measures['link'][state].fetched)) for state in REUSED),
                   **{'update_fetched_' + name: size for name, size in rivals.items()},
                   'update_vs_full': against_full(measures['file'], REUSED),
                   'update_vs_full_100mbit': against_full(measures['link'], REUSED),
                   'delta_fetched': int(bytes_of['delta']),
                   'delta_vs_full_100mbit': against_full(measures['link'], ['delta'])}
        ratios = [pair.written_vs_differ(by_state) for by_state in measures.values()]
        peaks = [measure.peak() for by_state in measures.values() for measure in by_state.values()]
    ratios += [written_elsewhere(work, name) for name in ('erofs', 'squashfs')]
    figures['written_vs_changed'] = round(max(ratios), 3)
    return figures, max(peaks)
