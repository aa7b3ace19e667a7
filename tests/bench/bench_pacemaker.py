#!/usr/bin/python3
"""How long a guest is gone when its node dies: under Atoll, and under Pacemaker from Debian on the same testbed, with the same
machine, disk and fault. Both with a power switch outside of the nodes that confirms at once; and without one: Atoll with its
watchdogs, Pacemaker with a switch that takes as long as it waits for the watchdogs of sbd. (sbd itself would reset the machine
on which all these nodes are.)

ATL_FAILOVERS=N: how often of each (default 10); ATL_NODES=N: nodes (default 5)
"""
import os
import re
import shutil
import statistics
import sys
import time

os.environ.setdefault("ATL_FAILOVERS", "10")
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

import bench_failover as ours  # noqa: E402
from bench_failover import NODES, RUNS, VM, has_machine, logged, tell  # noqa: E402
from measure import end_in_order, say, undisturbed  # noqa: E402
from peernode import SWITCH, PeerTestbed, Power, SwitchedTestbed  # noqa: E402
from testbed import wait_until  # noqa: E402

DOMAIN = f"atoll-{VM}"
OURS = "  token: 1000\n  token_coefficient: 125\n"  # what corosync is told about time in Atoll's clusters
WATCHDOG_S = 10  # what Pacemaker waits for a watchdog of sbd: twice its 5 s
# name, corosync's times ("": its defaults), how long the switch takes to confirm, how often
PEERS = [("Pacemaker, switch", "", 0, RUNS), ("Pacemaker, switch, our totem", OURS, 0, RUNS),
         ("Pacemaker, watchdogs", "", WATCHDOG_S, max(1, RUNS // 2))]
NAMES = {"detected": "another node knows that it is gone", "fenced": "it is confirmed to be off",
         "started": "its process runs on the new node", "replied": "it replies"}
AGENT = re.compile(r"<source mode='bind' path='[^']*/org.qemu.guest_agent.0'/>")  # libvirt chooses its own
RESOURCES = """<resources>
<primitive id="power" class="stonith" type="fence_testbed">
<instance_attributes id="power-a"><nvpair id="power-a1" name="switch" value="{switch}"/>
<nvpair id="power-a2" name="pcmk_host_list" value="{hosts}"/>
<nvpair id="power-a3" name="pcmk_host_check" value="static-list"/></instance_attributes>
</primitive>
<primitive id="vm" class="ocf" provider="heartbeat" type="VirtualDomain">
<instance_attributes id="vm-a"><nvpair id="vm-a1" name="config" value="{config}"/>
<nvpair id="vm-a2" name="hypervisor" value="qemu:///system"/></instance_attributes>
<operations><op id="vm-start" name="start" interval="0" timeout="90s"/><op id="vm-stop" name="stop" interval="0" timeout="90s"/>
<op id="vm-monitor" name="monitor" interval="10s" timeout="30s"/></operations>
<meta_attributes id="vm-m"><nvpair id="vm-m1" name="resource-stickiness" value="1000"/></meta_attributes>
</primitive>
</resources>"""


def give_switch(testbed):
    power = Power(testbed)
    for i in testbed.numbers():
        testbed.atoll(1, "ha", "fence", "set", f"n{i}", "--agent", "fence_testbed", "--options",
                      f"port=n{i},switch={os.path.join(testbed.state_dir, SWITCH)}")
    return power


def run_ours(shared):
    """The moments under Atoll, without and with a switch; and the machine as libvirt knows it."""
    testbed = SwitchedTestbed(f"benchf{os.getpid()}", ours.BUILD)
    power = None
    try:
        ours.set_up(testbed, shared)
        plain = [ours.once(testbed) for _ in range(RUNS)]
        power = give_switch(testbed)
        switched = [ours.once(testbed) for _ in range(RUNS)]
        home = next(i for i in testbed.numbers() if has_machine(testbed, i))
        machine = testbed.exec(home, "virsh", "-q", "-c", "qemu:///system", "dumpxml", "--inactive", DOMAIN).stdout
        return plain, switched, AGENT.sub("", machine).replace(testbed.node(home).run_dir, "RUN")
    finally:
        end(testbed, power)


def end(testbed, power):
    undisturbed()
    if power is not None:
        power.shutdown()
    testbed.down()
    end_in_order()


def answers(testbed, which):
    ping = '{"execute":"guest-ping"}'
    return testbed.exec(which, "virsh", "-q", "-c", "qemu:///system", "qemu-agent-command", DOMAIN, ping,
                        check=False).returncode == 0


def well(testbed):
    return testbed.all_online() and testbed.runs("vm") and testbed.runs("power")


def configure(testbed, config):
    switch = os.path.join(testbed.state_dir, SWITCH)
    for name, value in (("stonith-enabled", "true"), ("stonith-action", "off")):
        testbed.exec(1, "crm_attribute", "-t", "crm_config", "-n", name, "-v", value)
    hosts = " ".join(f"n{i}" for i in testbed.numbers())
    testbed.exec(1, "cibadmin", "--replace", "-o", "resources", "-X",
                 RESOURCES.format(switch=switch, hosts=hosts, config=config))
    if not wait_until(120, lambda: well(testbed), 0.3):
        raise SystemExit("Pacemaker does not start the guest: " + testbed.exec(1, "crm_mon", "-1", check=False).stdout)


def once(testbed, power):
    """The moments of one failover under Pacemaker, in seconds after the power cut."""
    old = next(i for i in testbed.numbers() if has_machine(testbed, i))
    if not wait_until(180, lambda: answers(testbed, old), 0.3):
        raise SystemExit(f"the guest does not answer on n{old}")
    power.confirmed.clear()
    since, began = time.time(), time.monotonic()
    testbed.power_off(old)
    new = wait_until(180, lambda: next((i for i in testbed.numbers() if i != old and has_machine(testbed, i)), None), 0.02)
    if new is None:
        raise SystemExit(f"Pacemaker does not start the guest of n{old} elsewhere")
    started = time.monotonic() - began
    if not wait_until(180, lambda: answers(testbed, new), 0.1):
        raise SystemExit(f"the guest does not answer on n{new}")
    replied = time.monotonic() - began
    moments = {"detected": logged(testbed, "corosync", "A new membership", since), "started": started, "replied": replied,
               "fenced": power.confirmed[0][1] - began if power.confirmed else None}
    others = {name for name, _ in power.confirmed} - {f"n{old}"}
    if others or not power.confirmed:
        raise SystemExit(f"fenced: {power.confirmed}, and not n{old} alone")
    testbed.power_on(old)
    if not wait_until(180, lambda: well(testbed), 0.3):
        raise SystemExit("Pacemaker's nodes do not find together again")
    return moments


def run_theirs(shared, machine, timings, delay_s, runs):
    testbed = PeerTestbed(f"benchp{os.getpid()}", timings)
    power = None
    try:
        testbed.up(NODES)
        power = Power(testbed, delay_s)
        config = os.path.join(shared, "machine.xml")
        with open(config, "w", encoding="utf-8") as out:
            out.write(machine.replace("RUN", os.path.join(shared, "run")))
        sockets = os.path.join(shared, "run", "qemu", str(VM))
        os.makedirs(sockets, exist_ok=True)
        shutil.chown(sockets, "libvirt-qemu", "kvm")
        configure(testbed, config)
        return [once(testbed, power) for _ in range(runs)]
    finally:
        end(testbed, power)


def against(name, mine, theirs):
    for key, what in (("started", "until the process"), ("replied", "until the reply")):
        ratio = statistics.median(run[key] for run in mine) / statistics.median(run[key] for run in theirs)
        say(f"Atoll against {name}, {what}", ratio, "x")


def main():
    end_in_order()
    shared = f"/srv-benchf-{os.getpid()}"
    try:
        print("switch: outside of the nodes, it confirms at once, which is the best that Pacemaker can have\n"
              f"watchdogs: Atoll's are the testbed's; for Pacemaker a switch that confirms after {WATCHDOG_S} s, as long as "
              "it waits for sbd's", flush=True)
        plain, switched, machine = run_ours(shared)
        tell(plain, "Atoll")
        tell(switched, "Atoll, switch")
        for name, timings, delay_s, runs in PEERS:
            theirs = run_theirs(shared, machine, timings, delay_s, runs)
            tell(theirs, name, None, NAMES)
            against(name, plain if delay_s else switched, theirs)
    finally:
        undisturbed()
        shutil.rmtree(shared, ignore_errors=True)


if __name__ == "__main__":
    main()
