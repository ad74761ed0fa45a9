# SPDX-License-Identifier: LGPL-2.1-or-later
"""A cluster of guests on a network of their own.

    farm = Cluster(s)                                   s is a Scenario
    c1, e1 = farm.switch_on('c1', 'e1')                 with version 1 from the factory, booted side by side
    farm.found(c1)                                      the first controller
    farm.join(e1)
    farm.await_all('1')                                 every member runs it, confirmed

Each guest has a second network card. What goes out there is a datagram on the host's loopback, to a multicast group that belongs to
this process: the guests see each other, and nobody else sees them. A controller has QEMU's user network besides, where it fetches
bundles from the host; an engine has not, so that what it installs comes from a controller.

The reset of a guest is an event of its QEMU, with the host's time: `resets` has them.
"""

import contextlib
import datetime
import json
import os
import socket
import threading
import time

import images
import qmp
import scenario
from agent import AgentError

PORT = 8443
ADDRESS = '10.111.0.%d'
CONFIGURATION = {
    'c': '[Cluster]\nName=%s\n[API]\nListen=0.0.0.0:8443\nClientCA=/data/bootmgr/cluster/ca.pem\n',
    'e': '[Cluster]\nName=%s\n',
}


def _network(number):
    """The card of that guest: its MAC address, and the group that is this process's."""
    pid = os.getpid()
    group = '239.%d.%d.%d:%d' % (192 + (pid >> 22 & 63), pid >> 14 & 255, pid >> 6 & 255, 30000 + (pid & 63))
    mac = '52:54:00:b0:07:%02x' % number
    return mac, ['-netdev', 'socket,id=farm,mcast=%s,localaddr=127.0.0.1' % group,
                 '-device', 'virtio-net-pci,netdev=farm,romfile=,mac=' + mac]


class Node(scenario.Machine):
    """A machine of the cluster: c1, c2 … are controllers, e1, e2 … engines."""

    def __init__(self, s, build, name, number):
        super().__init__(s, '%s-%s' % (s.name, name), build)
        self.name, self.number, self.address = name, number, ADDRESS % number
        self.resets = []        # host's seconds
        self.is_controller = name.startswith('c')

    def make(self, version, clock_behind):
        """A fresh guest, whose clock is so many seconds behind."""
        mac, card = _network(self.number)
        self.mac = mac
        card += ['-qmp', 'unix:events.sock,server=on,wait=off']
        if clock_behind:
            wrong = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=clock_behind)
            card += ['-rtc', 'base=' + wrong.strftime('%Y-%m-%dT%H:%M:%S')]
        self.guest.cut()
        self.create(version, network=self.is_controller, qemu=card)

    def power_on(self):
        self.guest.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        """Until its QEMU ends: when it was reset. A keeper makes a reset of it (keeper.py), so that it is called a shutdown."""
        directory = os.open(self.guest.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect('/proc/self/fd/%d/events.sock' % directory)
                monitor = qmp.Monitor(connection)
                while event := monitor.next_event():
                    if event.get('data', {}).get('reason') == 'guest-reset':
                        self.resets.append(event['timestamp']['seconds'] + event['timestamp']['microseconds'] / 1e6)
        except OSError:
            pass
        finally:
            os.close(directory)

    def link(self, up):
        """The cable of its card in the network of the cluster."""
        self.guest.qmp('set_link', name='farm', up=up)

    def put(self, path, text):
        self.sh('mkdir -p ' + os.path.dirname(path))
        self.guest.agent.push(scenario.text(text), path)
        self.sh('chmod 644 ' + path)

    def configure(self):
        """What a machine is given before it is told of a cluster: an address, a name, what it is to be."""
        self.put('/etc/systemd/network/10-farm.network',
                 '[Match]\nMACAddress=%s\n[Network]\nAddress=%s/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' % (self.mac, self.address))
        self.put('/etc/bootmgr/bootmgr.conf.d/cluster.conf', CONFIGURATION[self.name[0]] % self.name)
        # Emulated, three of them side by side on two processors take longer to boot than any machine should.
        self.put('/etc/bootmgr/bootmgr.conf.d/emulated.conf',
                 '[Health]\nDeadlineSec=900\nCheckTimeoutSec=600\n[Configuration]\nHookTimeoutSec=600\n')
        self.put('/etc/hostname', self.name + '\n')
        self.put('/etc/hosts', '127.0.0.1 localhost\n' + ''.join('%s %s\n' % (ADDRESS % n, name) for name, n in Cluster.NUMBERS.items()))
        self.sh('hostname %s; networkctl reload; until grep -q "%s$" /proc/net/fib_trie; do sleep 0.2; done' % (self.name, self.address))

    def api(self, method, path, body=None, of=None):
        """What a controller answers who shows this node's certificate: status and JSON."""
        command = ("cd /data/bootmgr/cluster && curl -sS --max-time 30 --cacert ca.pem --cert node.pem --key node.key "
                   "-w '\\n%%{http_code}' -X %s %s https://%s:%d%s"
                   % (method, "-d '%s'" % json.dumps(body) if body is not None else '', (of or self).address, PORT, path))
        text, _, status = self.sh(command).rpartition('\n')
        return int(status), json.loads(text) if text.strip() else None

    def version(self):
        return self.appliance()['version']


class Cluster:
    NUMBERS = {'c1': 1, 'c2': 2, 'c3': 3, 'e1': 11, 'e2': 12, 'e3': 13, 'e4': 14}

    def __init__(self, s):
        self.s, self.build, self.nodes, self.members = s, images.Build(cluster=True), {}, []

    # --- machines -----------------------------------------------------------------------------------------------------------

    def switch_on(self, *names, version='1', clock_behind=None):
        """Fresh machines, booted side by side; with one name, that one. clock_behind: seconds, by the names."""
        made = [self.nodes.setdefault(name, Node(self.s, self.build, name, self.NUMBERS[name])) for name in names]
        for node in made:
            if node not in self.s.machines:
                self.s.machines.append(node)
            node.make(version, (clock_behind or {}).get(node.name, 0))
            node.power_on()
        self.s.note('%s %s switched on' % (', '.join(names), 'is' if len(names) == 1 else 'are'))
        for node in made:
            node.await_boot(new=False)
            node.configure()
        return made if len(made) > 1 else made[0]

    def found(self, controller):
        controller.sh('bootmgr cluster init farm --address %s && systemctl start bootmgr-etcd' % controller.address)
        self.members.append(controller)
        self.await_up(controller.name)

    def join(self, node, controller=None):
        controller = controller or self.members[0]
        token = controller.sh('bootmgr cluster token').strip()
        node.sh('bootmgr node join https://%s:%d %s' % (controller.address, PORT, token))
        if node not in self.members:
            self.members.append(node)

    # --- what it is like ----------------------------------------------------------------------------------------------------

    def shown(self, who=None):
        """What `show nodes` says, by the names."""
        return {node['name']: node for node in (who or self.members[0]).json('show', 'nodes')['nodes']}

    def state_of(self, node, who=None):
        return self.shown(who).get(node.name, {}).get('state')

    @staticmethod
    def wait(what, condition, timeout=300):
        """Until condition() holds, which is asked of a controller. Each time takes an emulated one a second: not too often."""
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(AgentError, scenario.ScenarioError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise scenario.ScenarioError('not within %d s: %s' % (timeout, what))
            time.sleep(3)

    def await_up(self, name):
        self.wait('%s is up' % name, lambda: self.state_of(self.nodes[name]) == 'up')

    def await_all(self, version, nodes=None, timeout=1200):
        nodes, last = nodes or self.members, {}

        def there():
            shown = self.shown()
            last.update({n.name: (shown.get(n.name, {}).get('state'), shown.get(n.name, {}).get('version')) for n in nodes})
            return all(found == ('up', version) for found in last.values())
        try:
            self.wait('%s run version %s' % (', '.join(n.name for n in nodes), version), there, timeout)
        except scenario.ScenarioError as error:
            raise scenario.ScenarioError('%s: %s' % (error, last)) from None
        self.s.note('%s: version %s' % (', '.join(n.name for n in nodes), version))

    def await_end(self, timeout=1800):
        """Of the operation of the cluster; returns it."""
        found = {}

        def over():
            found.clear()
            found.update(self.members[0].operation())
            # Where the store does not answer, a node shows what it did itself.
            return 'cluster_unreachable' not in found and found['state'] != 'IN_PROGRESS'
        self.wait('the end of the operation', over, timeout)
        self.s.note('%s %s' % (found['operation'], found['state']))
        return found

    def operate(self, command, timeout=1800):
        """A command on the first controller that begins an operation, and its end."""
        self.members[0].sh('bootmgr ' + command)
        return self.await_end(timeout)


def resets(nodes, since):
    """Of each of these nodes the first reset since then, in seconds behind the earliest of all; None where there was none."""
    first = {node.name: next((at for at in node.resets if at >= since), None) for node in nodes}
    earliest = min((at for at in first.values() if at is not None), default=0)
    return {name: None if at is None else at - earliest for name, at in first.items()}
