# SPDX-License-Identifier: LGPL-2.1-or-later
"""Power cuts at random moments: what qemu/soak and the scenario `cuts` do."""

import glob
import hashlib
import json
import os
import random
import re
import shutil
import time

import datapart
import figures
import host
import images
import scenario
import server
import states
import writelog
from agent import AgentError
from guest import GuestError

SETTINGS = 'data/appliance/config/settings'
SIGNS = {1: '=', 2: ': ', 3: ' -> '}
VERSIONS = ('1', '2', '3')          # each goes up to the next
IDLE_SECONDS = 20                   # without a write: what was begun has ended
BOOT_SECONDS = 900                  # a night long, beside whatever else the host does
FIGURES = os.path.join(host.BUILD, 'bench/crash.json')
LONGEST = 400                       # seconds from the beginning of an operation to the cut

NOTHING = {'cuts': 0, 'failures': [], 'seconds': 0.0, 'log_states': 0, 'log_failures': 0}


class Wrong(Exception):
    """What the machine is after a cut is not what it may be."""


class Soak:
    """One machine and its lives. `state` is all that is kept:

        cuts, failures, seconds, log_states, log_failures
        may         version -> configuration, of those that may be up at the next boot
        known       version -> configuration that it had when it was left
        generation  the highest that was seen
    """

    def __init__(self, seed, directory, fresh=False, looks=0):
        self.seed, self.directory, self.looks = seed, directory, looks
        self.disk, self.log = os.path.join(directory, 'disk.img'), os.path.join(directory, 'write.log')
        self.build = images.Build()
        self.roots = roots(self.build) if looks else None
        self.machine = scenario.Machine(self, 'soak-' + seed, self.build)
        self.machine.boot_seconds = BOOT_SECONDS
        self.machine.guest.cut()
        self.start = self.since = time.monotonic()
        self.commit = figures.commit(host.REPO)
        self.state = None if fresh else self._load()
        if not self.state:
            shutil.rmtree(directory, ignore_errors=True)
            os.makedirs(directory)
            self.state = {**NOTHING, 'seed': seed, 'failures': []}
            self._new_life()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.machine.guest.cut()

    # --- what is kept -------------------------------------------------------------------------------------------------------

    def _load(self):
        try:
            with open(os.path.join(self.directory, 'state.json')) as file:
                return {**NOTHING, **json.load(file)} if self.machine.guest.exists else None
        except FileNotFoundError:
            return None

    def _save(self):
        now = time.monotonic()
        self.state['seconds'] += now - self.since
        self.since = now
        path = os.path.join(self.directory, 'state.json')
        with open(path + '.new', 'w') as file:
            json.dump(self.state, file, indent=2)
        os.replace(path + '.new', path)

    def note(self, text):
        print('-- %5.0f s  %s' % (time.monotonic() - self.start, text), flush=True)

    def _new_life(self):
        """The factory's disk, never booted."""
        host.run(['cp', '--sparse=always', '--reflink=auto', self.build.disk(), self.disk])
        self.machine.guest.create(self.disk, write_log=self.log)
        self.state.update(may={'1': None}, known={}, generation=0, in_doubt=False)
        self._save()

    # --- cuts ---------------------------------------------------------------------------------------------------------------

    def run(self, wanted):
        with server.serve(**{version: self.build.bundle(version) for version in VERSIONS[1:]}) as url:
            self.url = url
            while self.state['cuts'] < wanted:
                try:
                    self._one()
                except (Wrong, GuestError, AgentError, scenario.ScenarioError) as error:
                    self._failed(error)
            if self.state['in_doubt']:
                try:
                    self.machine.guest.renew_disk()
                    self.machine.guest.start()
                    self._come_up()
                except (Wrong, GuestError, AgentError, scenario.ScenarioError) as error:
                    self._failed(error)
                self.machine.guest.cut()

    def _failed(self, error):
        number = self.state['cuts']
        self.machine.show_trouble()
        self.machine.guest.cut()
        image = os.path.join(self.directory, 'failed-%d.img' % number)
        host.run(['cp', '--sparse=always', '--reflink=auto', self.disk, image])
        print('NOT OK: cut %d: %s\n    the disk is %s' % (number, error, image), flush=True)
        self.state['failures'].append('cut %d: %s' % (number, error))
        self._new_life()

    def _one(self):
        number = self.state['cuts'] + 1
        rng = random.Random('%s %d' % (self.seed, number))
        guest = self.machine.guest
        guest.renew_disk()
        guest.start()
        follower = writelog.Follower(self.log)
        try:
            if self.state['in_doubt'] and rng.random() < 0.45:
                what, moment = 'the boot after it', Moment(rng, seconds=30, flushes=30, writes=120)
            else:
                self._come_up()
                what, moment = self._operate(rng), Moment(rng, seconds=60, flushes=110, writes=900)
            when = moment.wait(follower)
        finally:
            follower.close()
        guest.cut()
        commits = {*self.state.get('commits', ['unknown'] if number > 1 else []), self.commit}
        self.state.update(cuts=number, in_doubt=True, commits=sorted(commits))
        how = self._lose(number, rng)
        self._save()
        publish()
        self.note('cut %d of seed %s in %s, %s; %s' % (number, self.seed, what, when, how))

    def _lose(self, number, rng):
        """Makes the disk what is left of it."""
        replay = states.Replay(self.disk, self.log, '%s %d' % (self.seed, number))
        judge = states.Judge(self.roots) if self.looks else None
        try:
            wrong = self._look(judge, replay, random.Random(replay.seed)) if judge else replay.finish()
            kept, how = writelog.survivors(replay.epochs[-1], rng)
            replay.disk.advance(kept)
            if rng.random() < 0.3:
                datapart.tear(replay.disk.map, replay.partitions()['data'].offset)
                how += ', the superblock of data torn'
            if judge:
                _, version, more = judge.verdict(states.State(replay.disk))
                how += '; to be started: version %s' % version
                wrong = wrong + more
        finally:
            replay.close()
            if judge:
                judge.close()
        self.state['log_failures'] += len(wrong or ())
        if wrong:
            raise Wrong('\n'.join(wrong))
        return how

    def _look(self, judge, replay, rng):
        """At so many of the disks that the power could have left since it was last switched on."""
        count, wrong = 0, []
        share = self.looks / 2 / len(replay.epochs)
        judge.advance(states.State(replay.disk))
        judge.may_be_empty = len(self.state['known']) <= 1
        for _, where, state, durable in replay.states(lambda _: int(share) + (rng.random() < share % 1), share):
            wrong += ['%s: %s' % (where, text) for text in judge.verdict(state)[2]]
            count += 1
            if durable:
                judge.advance(state)
        self.state['log_states'] += count
        if not wrong:
            print('ok: %d of the disks that a cut before could have left: what would be started is whole' % count, flush=True)
        return wrong

    # --- what the machine must be -------------------------------------------------------------------------------------------

    def _come_up(self):
        """Up, with a version that may be up, its configuration, and nothing stuck."""
        box = self.machine
        box.await_boot(new=False)
        box.wait('no operation is at work', lambda: is_settled(box.operation()))
        version = box.sh('sed', '-n', 's/^VERSION_ID=//p', '/usr/lib/os-release').strip()
        found = box.configuration()
        status, operation = box.status(), box.operation()
        if version not in self.state['may']:
            raise Wrong('version %s is up, and only %s may be' % (version, ', '.join(sorted(self.state['may']))))
        self._check_configuration(version, found)
        self._check_record(version, status, operation)
        if self.state['in_doubt']:
            print('ok: cut %d: version %s is up with its configuration; %s %s, generation %d'
                  % (self.state['cuts'], version, operation['operation'], operation['state'], status['generation']), flush=True)
        self.state.update(generation=status['generation'], in_doubt=False)
        self.version, self.status, self.staged = version, status, bool(operation.get('staged'))

    def _check_configuration(self, version, found):
        expected = self.state['may'][version]
        if isinstance(expected, dict):
            expected, found = migrated(expected['from'], expected['interval'], version), without_times(found)
        if expected is not None and found != expected:
            raise Wrong('version %s has not its own configuration\nexpected:\n%s\nfound:\n%s' % (version, expected, found))

    def _check_record(self, version, status, operation):
        slots = {slot['name']: slot for slot in status['slots']}
        running = slots[status['booted']]
        trouble = [text for text, wrong in (
            ('slot %s has version %s' % (status['booted'], running['version']), running['version'] != version),
            ('the running slot is %s' % running['state'], running['state'] != 'confirmed'),
            ('slot %s is next' % status['next'], status['next'] != status['booted']),
            ('the generation went from %d to %d' % (self.state['generation'], status['generation']),
             status['generation'] < self.state['generation']),
            ('the other slot is on trial', any(slot['state'] == 'trial' for slot in slots.values())),
            ('the record was lost', any('record' in note for note in status['notes'])),
            ('failed units: ' + self.machine.sh('systemctl --failed --plain --no-legend'),
             self.machine.sh('systemctl --failed --plain --no-legend').strip())) if wrong]
        if trouble:
            raise Wrong('version %s is up, but %s\n%s\n%s' % (version, '; '.join(trouble), json.dumps(status), json.dumps(operation)))

    # --- operations ---------------------------------------------------------------------------------------------------------

    def _operate(self, rng):
        """Begins one, says which, and notes what may be up afterwards."""
        box, known = self.machine, self.state['known']
        if self.staged:
            patiently(box, 'abort')
        interval = 100 + self.state['cuts']
        box.sh(change(interval))
        known[self.version] = of_this = box.configuration()
        self.state['may'] = {self.version: of_this}
        words, other = self._choose(rng)
        if words[0] == 'upgrade':
            self.state['may'][other] = {'from': of_this, 'interval': interval}
            known.pop(other, None)
        else:
            self.state['may'][other] = known[other]
        patiently(box, 'upgrade', 'clear')
        box.sh('systemd-run', '--quiet', '--collect', '--unit=soak', 'bootmgr', *words)
        return '`bootmgr %s` (from version %s)' % (' '.join(words), self.version)

    def _choose(self, rng):
        """The words of the next operation, and the version it goes to."""
        status, known = self.status, self.state['known']
        slots = {slot['name']: slot for slot in status['slots']}
        higher = VERSIONS[VERSIONS.index(self.version) + 1:][:1]
        other = next(slot for name, slot in slots.items() if name != status['booted'])
        dice = rng.random()
        if status['previous'] and (dice < 0.75 or not higher):
            return ['rollback', 'system'], slots[status['previous']]['version']
        if not status['previous'] and other['state'] == 'confirmed' and other['version'] in known and (dice < 0.25 or not higher):
            return ['slot', 'activate', other['name']], other['version']
        if not higher:          # its way back has used up its tries, in cuts one after another
            higher = VERSIONS[VERSIONS.index(self.version) - 1:][:1]
        return ['upgrade', 'system', '--yes', self.url(higher[0])], higher[0]


class Moment:
    """When the power is cut: after some time, some flushes or some writes, or when nothing is written any more."""

    def __init__(self, rng, seconds, flushes, writes):
        self.kind = rng.choice(('seconds', 'flushes', 'writes'))
        # More of the early flushes and writes: those of a command, before those of the boot that follows it.
        self.limit = {'seconds': rng.uniform(0.1, seconds), 'flushes': rng.randint(1, flushes), 'writes': rng.randint(1, writes)}[self.kind]
        self.delay = rng.choice((0, 0, 0.02, 0.1))

    def wait(self, follower):
        for _ in follower.new():
            pass
        count = {'seconds': 0.0, 'flushes': 0, 'writes': 0}
        start = last = time.monotonic()
        while count[self.kind] < self.limit:
            time.sleep(0.01)
            for entry in follower.new():
                count['flushes' if entry is writelog.FLUSH else 'writes'] += 1
                last = time.monotonic()
            count['seconds'] = time.monotonic() - start
            if count['writes'] and time.monotonic() - last > IDLE_SECONDS or count['seconds'] > LONGEST:
                break
        time.sleep(self.delay)
        return ('after %(seconds).1f s, %(flushes)d flushes, %(writes)d writes' % count) + ' (wanted: %.4g %s)' % (self.limit, self.kind)


# --- the appliance's configuration ----------------------------------------------------------------------------------------------

def change(interval):
    """The command that makes a configuration of its own, and makes it durable."""
    return ('cd /data/appliance/config; sed -i "s/interval\\([^0-9]*\\).*/interval\\1%d/" settings; echo %d >extra; chmod 640 extra; '
            'ln -sf settings link; echo "GREETING=\\"hello %d\\"" >/etc/appliance/appliance.conf; sync' % ((interval,) * 3))


def patiently(box, *words):
    """What follows a boot holds the machine for a moment longer than the boot lasts."""
    box.wait('`bootmgr %s` succeeds' % ' '.join(words), lambda: box.run('bootmgr', *words).code == 0)


def is_settled(operation):
    """Nothing is at work: it has ended, or waits for the next shutdown."""
    return operation['state'] != 'IN_PROGRESS' or operation['staged']


def without_times(configuration):
    """What the first boot of a new version may change besides the content of the settings: the times of what it writes."""
    return re.sub(r'(?m)^(%s|data/appliance/config)( \S \d+ \S+) \S+' % SETTINGS, r'\1\2 -', configuration)


def plain(configuration):
    """Names, types, modes, owners and contents, no times."""
    return re.sub(r'(?m)^(\S+ [dfl] \d+ \S+) \S+', r'\1 -', configuration)


def migrated(configuration, interval, version):
    """The configuration that the next version has made of it."""
    form = images.VERSIONS[version][0]
    content = 'format %d\ninterval%s%d\nunit%scelsius\n' % (form, SIGNS[form], interval, SIGNS[form])
    digest = hashlib.sha256(content.encode()).hexdigest()
    return re.sub(r'(?m)^[0-9a-f]{64}  %s$' % SETTINGS, '%s  %s' % (digest, SETTINGS), without_times(configuration))


def roots(build):
    """version -> [format of its settings, digest of its root]"""
    result = {}
    for version in VERSIONS:
        with open(os.path.join(build.version(version), 'root.ext4'), 'rb') as file:
            result[version] = [images.VERSIONS[version][0], hashlib.file_digest(file, 'sha256').hexdigest()]
    return result


def publish():
    """The sums over all seeds and the replay, into build/bench/crash.json, each with the time of its newest source. What has no source
    was not run."""
    sources = []
    for path in glob.glob(os.path.join(host.BUILD, 'soak/*/state.json')) + glob.glob(os.path.join(host.BUILD, 'crash/*/figures.json')):
        with open(path) as file:
            state = json.load(file)
        sources.append(({**state, 'cut_failures': len(state.get('failures', ()))}, os.path.getmtime(path)))
    for part, names in ((part, figures.PARTS[part]) for part in ('crash-log', 'soak')):
        of = [(state, when) for state, when in sources if state.get(names[0])]
        if of:
            figures.merge(FIGURES, part, {name: sum(state.get(name, 0) for state, _ in of) for name in names},
                          {commit for state, _ in of for commit in state.get('commits', ['unknown'])}, max(when for _, when in of))
