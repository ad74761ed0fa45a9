# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done to a cluster of real daemons, and when. A moment is a node at a step of an operation, as `show upgrade status` lists
them: those of the cluster's operation, and those of the node's own. Each disturbance is made at each moment once, before any comes
again; which belong together in one schedule comes from the seed."""

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import threading
import time

import world

KINDS = ('kill', 'stop', 'cut off', 'delay', 'restart')
SHARED = ('OPEN', 'PREPARE', 'COMMIT', 'SWITCH_CONTROLLERS', 'SWITCH_ENGINES', 'FINISH')
OWN = {'upgrade': ('CHECK_BUNDLE', 'WRITE_IMAGE', 'VERIFY_IMAGE', 'INSTALL_BOOT_FILES', 'STOP_SERVICES', 'CARRY_CONFIG',
                   'SNAPSHOT_CONFIG', 'RECORD_PREVIOUS', 'SWITCH_ENTRY', 'REBOOT', 'MIGRATE_CONFIG', 'CHECK_HEALTH', 'CONFIRM'),
       'rollback': ('CHECK_PREVIOUS', 'STOP_SERVICES', 'SNAPSHOT_CONFIG', 'SWITCH_ENTRY', 'REBOOT', 'RESTORE_CONFIG', 'CHECK_HEALTH',
                    'CONFIRM')}
ALIASES = {'READ_BACK': 'VERIFY_IMAGE', 'PROBE_HEALTH': 'CHECK_HEALTH'}        # as the next version names them


def moments(operation, names):
    return list(itertools.product((operation,), SHARED + OWN[operation], names, KINDS))


def plan(seed, operation, names, turn, n):
    """The `turn`-th handful of the shuffled list of all moments, begun again when it is used up."""
    shuffled = moments(operation, names)
    random.Random('moments %s %s' % (seed, operation)).shuffle(shuffled)
    return [shuffled[i % len(shuffled)] for i in range(turn * n, turn * n + n)]


class Disturber:
    """Disturbs one operation: watches for the moments of the plan, and acts in each as it comes."""

    def __init__(self, w, plan_, chance, note):
        self.world, self.random, self.note = w, chance, note
        self.waiting, self.done, self.off = list(plan_), {}, []         # done: moment -> whether its step was still at work
        self.threads, self.lock = [], threading.Lock()
        self.over, self.ended = threading.Event(), threading.Event()    # the operation, as the cluster says; the disturbing
        self.newest = {n: self.newest_file(n) for n in w.nodes.values()}
        self.id = '%032x' % chance.getrandbits(128)

    def start(self):
        for watch in (self.watch_own, self.watch_shared):
            self.run(watch)
        if self.random.random() < 0.5:
            self.run(self.extra, self.random.uniform(0, 6))

    def finish(self):
        """Nothing more is done; what was done is taken back."""
        self.ended.set()
        for thread in self.threads:
            thread.join()
        for node in self.world.nodes.values():
            node.cable.repair()
        for node in self.off:
            self.note('switch on ' + node.name)
            with node.lock:
                node.boot()
                node.start()

    # --- when ---

    def seen(self, name, steps):
        """`name`: of the node whose own steps these are; None: they are the cluster's."""
        with self.lock:
            now = [m for m in self.waiting if m[1] in steps and (m[1] in SHARED if name is None else m[1] not in SHARED and m[2] == name)]
            self.waiting = [m for m in self.waiting if m not in now]
        for moment in now:
            self.done[moment] = steps[moment[1]]
            self.run(self.act, moment)

    def run(self, function, *words):
        self.threads.append(threading.Thread(target=self.guarded, args=(function, *words), daemon=True))
        self.threads[-1].start()

    def guarded(self, function, *words):
        try:
            function(*words)
        except Exception as e:          # whatever it is, it must be told: nothing would be disturbed any more
            self.world.trouble('%s %s' % (function.__name__, words), e)

    @staticmethod
    def newest_file(node):
        try:
            return max(name for name in os.listdir(node.data / 'operations') if name.endswith('.json'))
        except (OSError, ValueError):
            return ''

    @staticmethod
    def begun(operation):
        """{step: whether it is still at work}; one of a few milliseconds is mostly over when it is seen."""
        return {ALIASES.get(s['name'], s['name']): s['state'] == 'RUNNING' for s in operation.get('steps', [])
                if s['state'] not in ('WAITING', 'SKIPPED') or s['start']}

    def watch_own(self):
        while not self.ended.wait(0.01):
            for node in {self.world.nodes[m[2]] for m in self.waiting if m[1] not in SHARED}:
                name = self.newest_file(node)
                if name <= self.newest[node]:
                    continue
                try:
                    self.seen(node.name, self.begun(json.loads((node.data / 'operations' / name).read_text())))
                except (OSError, ValueError):
                    pass                # it is being replaced

    def watch_shared(self):
        controllers = itertools.cycle([n for n in self.world.nodes.values() if n.name.startswith('c')])
        node = next(controllers)
        while not self.ended.wait(0.15):
            try:
                status, operation = node.ask('GET', '/api/cluster/upgrade/status', timeout=2)
            except (OSError, http.client.HTTPException, ValueError):
                status, operation = 0, {}
            if status == 200 and operation and operation['id'] == self.id:
                self.seen(None, self.begun(operation))
                if operation['state'] != 'IN_PROGRESS':
                    self.over.set()
            elif status != 200:
                node = next(controllers)

    # --- what ---

    def act(self, moment):
        operation, step, name, kind = moment
        time.sleep(self.random.choice((0, 0, self.random.uniform(0, 1))))
        self.note('%s: %s %s' % (step, kind, name))
        {'kill': self.kill, 'stop': self.stop, 'cut off': self.cut_off, 'delay': self.delay, 'restart': self.restart}[kind](
            self.world.nodes[name])

    def kill(self, node):
        if node.coming_up:              # there is no daemon to be killed yet
            node.reset()
            return
        node.stop(signal.SIGKILL)
        time.sleep(self.random.uniform(0, 2))
        if node not in self.off:
            node.start()

    def stop(self, node):
        node.freeze(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.2, 5))
        node.freeze(signal.SIGCONT)

    def restart(self, node):
        if node not in self.off:
            node.reset()

    def cut_off(self, node):
        self.on_cables([node], self.random.choice((node.cable.unplug, node.cable.shut)), self.random.uniform(1, 10))

    def delay(self, node):
        self.on_cables([node], lambda: node.cable.hold_back(self.random.uniform(0.1, 1)), self.random.uniform(2, 10))

    @staticmethod
    def on_cables(nodes, how, seconds):
        """One after the other: a cable that is held back, for one, is not at the bridge. The locks of several are taken in one order."""
        with contextlib.ExitStack() as locks:
            for node in sorted(nodes, key=lambda n: n.name):
                locks.enter_context(node.cable.lock)
            how()
            time.sleep(seconds)
            for node in nodes:
                node.cable.repair()

    def extra(self, after):
        """What belongs to no step: a node that is off until the end, a store that is lost, two nodes that do not reach each other."""
        if self.ended.wait(after):
            return
        nodes = list(self.world.nodes.values())
        controllers = [n for n in nodes if n.name.startswith('c')]
        how = self.random.choice(('switch off', 'lose the store of', 'keep from others'))
        node = self.random.choice([n for n in nodes if n not in controllers] if how == 'switch off' else controllers)
        self.note('%s %s' % (how, node.name))
        if how == 'switch off':
            self.off.append(node)
            node.was_reset = True
            with node.lock:
                node.cut()
        elif how == 'lose the store of':
            node.end(node.etcd, signal.SIGKILL)
            time.sleep(self.random.uniform(0, 3))
            node.start_etcd()           # whatever else has ended on it: its unit has Restart=always
        else:
            others = [n for n in self.random.sample(nodes, min(2, len(nodes))) if n is not node]
            self.on_cables([node, *others], lambda: node.cable.keep_from([n.cable for n in others]), self.random.uniform(2, 10))
