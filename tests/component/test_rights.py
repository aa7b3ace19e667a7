#!/usr/bin/python3
"""What users with few rights may do to guests: each method asks for its own right, and nothing else gives it."""
import json
import unittest

from node_env import ApiError, Env, Rest, wait_for

GUEST_ROLES = {"Look": "VM.Audit", "Net": "VM.Audit,VM.Config.Network", "Disk": "VM.Audit,VM.Config.Disk",
               "Disc": "VM.Audit,VM.Config.CDROM", "Cpu": "VM.Audit,VM.Config.CPU", "Power": "VM.Audit,VM.PowerMgmt",
               "Agent": "VM.Audit,VM.GuestAgent.Audit", "Options": "VM.Audit,VM.Config.Options",
               "Maker": "VM.Allocate,VM.Audit", "Space": "Datastore.AllocateSpace", "Reads": "Datastore.Audit",
               "Bridge": "SDN.Use"}


class Rights(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = Env()
        cls.addClassCleanup(cls.env.stop)
        rest = cls.env.rest
        cls.env.storage()
        cls.env.make_ct(101, start=False)
        rest.wait(rest.post(cls.env.path("qemu"), vmid=100, virtio0="local:1", ide2="none,media=cdrom", memory=64,
                            net0="virtio,bridge=vmbr0", agent="1"))
        rest.wait(rest.post(cls.env.path("qemu"), vmid=102, memory=64))
        cls.add_roles()

    @classmethod
    def add_roles(cls):
        """Roles of our own stand in user.cfg; its other lines stay."""
        found = json.loads(cls.env.atoll("store", "get", "--path", "user.cfg", "--output", "json").stdout)
        text = bytes.fromhex(found["file"]["content"]).decode()
        text += "".join(f"role:{name}:{privileges}:\n" for name, privileges in GUEST_ROLES.items())
        cls.env.atoll("store", "txn", "--operation", f"kind=put,path=user.cfg,content={text.encode().hex()}")

    def user(self, name, **rules):
        """A user with just these rules ("Look=/vms/100"), logged in."""
        userid = f"{name}@pve"
        self.env.rest.post("/access/users", userid=userid, password="a password of tests")
        self.addCleanup(self.env.rest.delete, f"/access/users/{userid}")
        for role, paths in rules.items():
            for path in paths.split():
                self.env.rest.put("/access/acl", path=path, users=userid, roles=role)
        rest = Rest(self.env.node.url, self.env.ca)
        rest.login(userid, "a password of tests")
        return rest

    def denied(self, path, privilege, call, /, *args, **params):
        with self.assertRaises(ApiError) as caught:
            call(*args, **params)
        self.assertEqual(caught.exception.status, 403, caught.exception)
        self.assertIn(f"Permission check failed ({path}, {privilege})", str(caught.exception))

    def root_only(self, part, call, /, *args, **params):
        with self.assertRaises(ApiError) as caught:
            call(*args, **params)
        self.assertEqual(caught.exception.status, 403, caught.exception)
        self.assertIn(part, str(caught.exception))

    def config(self, vmid=100, kind="qemu"):
        return self.env.path(kind, vmid, "config")

    def test_lists_show_what_may_be_seen(self):
        rest = self.user("looker", Look="/vms/100")
        self.assertEqual([g["vmid"] for g in rest.get(self.env.path("qemu"))], [100])
        self.assertEqual(rest.get(self.env.path("lxc")), [])
        self.assertEqual([r["id"] for r in rest.get("/cluster/resources", type="vm")], ["qemu/100"])
        self.denied("/vms/102", "VM.Audit", rest.get, self.config(102))
        self.denied("/vms/101", "VM.Audit", rest.get, self.env.path("lxc", 101, "status", "current"))
        self.assertEqual(rest.get(self.config())["memory"], self.env.rest.get(self.config())["memory"])

    def test_each_setting_asks_for_its_own_right(self):
        rest = self.user("netter", Net="/vms/100 /vms/101", Bridge="/sdn/zones/localnetwork/vmbr0")
        rest.put(self.config(), net1="virtio,bridge=vmbr0")
        self.denied("/vms/100", "VM.Config.Memory", rest.put, self.config(), memory=128)
        self.denied("/vms/100", "VM.Config.CPU", rest.put, self.config(), cores=2)
        self.denied("/vms/100", "VM.Config.Options", rest.put, self.config(), name="other")
        self.denied("/vms/100", "VM.Config.HWType", rest.put, self.config(), machine="q35")
        self.denied("/vms/100", "VM.Config.Memory", rest.put, self.config(), memory=128, net1="virtio,bridge=vmbr0")
        rest.put(self.config(101, "lxc"), nameserver="192.0.2.1")
        self.denied("/vms/101", "VM.Config.CPU", rest.put, self.config(101, "lxc"), cores=1)
        self.assertEqual(self.env.rest.get(self.config())["memory"], "64")

    def test_taking_away_asks_for_the_same_right(self):
        self.env.rest.put(self.config(), description="kept", cores=2)
        rest = self.user("cutter", Net="/vms/100 /vms/101")
        self.denied("/vms/100", "VM.Config.Options", rest.put, self.config(), delete="description")
        self.denied("/vms/100", "VM.Config.CPU", rest.put, self.config(), delete="cores")
        self.denied("/vms/100", "VM.Config.CPU", rest.put, self.config(), revert="cores")
        self.denied("/vms/100", "VM.Config.CPU", rest.post, self.config(), delete="cores")
        self.denied("/vms/100", "VM.Config.Disk|VM.Config.CDROM", rest.put, self.config(), delete="ide2")
        self.denied("/vms/100", "VM.Config.Disk", rest.put, self.config(), delete="virtio0")
        self.denied("/vms/101", "VM.Config.Memory", rest.put, self.config(101, "lxc"), delete="swap")
        self.assertEqual(self.env.rest.get(self.config())["cores"], 2)

    def test_disks_and_discs_are_two_rights(self):
        disc = self.user("disc", Disc="/vms/100", Space="/storage/local")
        disk = self.user("disk", Disk="/vms/100", Space="/storage/local")
        disc.put(self.config(), ide2="none,media=cdrom")
        self.denied("/vms/100", "VM.Config.Disk", disc.put, self.config(), ide3="local:1")
        self.denied("/vms/100", "VM.Config.CDROM", disk.put, self.config(), ide2="none,media=cdrom")
        self.denied("/vms/100", "VM.Config.CDROM", disk.put, self.config(), delete="ide2")
        self.denied("/vms/100", "VM.Config.CDROM", disk.put, self.config(), ide2="local:1")
        disk.put(self.config(), sata0="local:1")
        self.env.rest.put(self.config(), delete="sata0")

    def test_storages_and_bridges_ask_too(self):
        rest = self.user("both", Disk="/vms/100", Net="/vms/100 /vms/101")
        self.denied("/storage/local", "Datastore.AllocateSpace", rest.put, self.config(), sata1="local:1")
        self.denied("/sdn/zones/localnetwork/vmbr0", "SDN.Use", rest.put, self.config(), net2="virtio,bridge=vmbr0")
        self.denied("/sdn/zones/localnetwork/vmbr0", "SDN.Use", rest.put, self.config(101, "lxc"),
                    net1="name=eth1,bridge=vmbr0")
        self.assertNotIn("sata1", self.env.rest.get(self.config()))

    def test_another_guests_disk_is_for_who_may_all(self):
        rest = self.user("thief", Disk="/vms/102", Space="/storage/local")
        volume = self.env.rest.get(self.config())["virtio0"].split(",")[0]
        self.denied("/storage/local", "Datastore.Allocate", rest.put, self.config(102), virtio0=volume)

    def test_import_needs_a_readable_source(self):
        rest = self.user("importer", Maker="/vms")
        source = next(v["volid"] for v in self.env.rest.get(self.env.path("storage", "local", "content"))
                      if v["content"] == "import")
        self.denied("/storage/local", "Datastore.AllocateSpace", rest.post, self.env.path("qemu"), vmid=210,
                    virtio0=f"local:0,import-from={source}")
        self.assertNotIn(210, [g["vmid"] for g in self.env.rest.get(self.env.path("qemu"))])

    def test_what_is_for_root_alone(self):
        rest = self.user("vmadmin", PVEVMAdmin="/vms", PVEDatastoreAdmin="/storage")
        self.root_only("args", rest.put, self.config(), args="-nographic")
        self.root_only("skiplock", rest.put, self.config(), skiplock=1, name="x")
        self.root_only("ide3", rest.put, self.config(), ide3="/etc/shadow")
        self.root_only("serial", rest.put, self.config(), serial1="/dev/ttyS0")
        self.root_only("bind", rest.put, self.config(101, "lxc"), mp0="/etc,mp=/mnt")
        self.root_only("feature", rest.put, self.config(101, "lxc"), features="keyctl=1")
        self.root_only("skiplock", rest.post, self.env.path("qemu", 100, "status", "stop"), skiplock=1)
        # a token of an administrator that is not root@pam is no root either
        self.root_only("args", self.env.rest.put, self.config(), args="-nographic")

    def test_power_and_agent(self):
        rest = self.user("power", Power="/vms/101")
        looker = self.user("agent", Agent="/vms/100")
        self.denied("/vms/100", "VM.PowerMgmt", rest.post, self.env.path("qemu", 100, "status", "start"))
        self.assertEqual(rest.wait(rest.post(self.env.path("lxc", 101, "status", "start"))), "OK")
        rest.wait(rest.post(self.env.path("lxc", 101, "status", "stop")))
        self.denied("/vms/100", "VM.GuestAgent.Unrestricted", looker.post,
                    self.env.path("qemu", 100, "agent", "exec"), command="id")
        with self.assertRaises(ApiError) as caught:
            looker.post(self.env.path("qemu", 100, "monitor"), command="info status")
        self.assertEqual(caught.exception.status, 403)

    def test_creation_in_a_pool(self):
        for pool in ("own", "other"):
            self.env.rest.post("/pools", poolid=pool)
            self.addCleanup(self.env.rest.delete, "/pools", poolid=pool)
        rest = self.user("pooler", Maker="/pool/own", Space="/storage/local", Bridge="/sdn/zones/localnetwork/vmbr0")
        template = next(v["volid"] for v in self.env.rest.get(self.env.path("storage", "local", "content"))
                        if v["content"] == "vztmpl")
        self.denied("/vms/220", "VM.Allocate", rest.post, self.env.path("qemu"), vmid=220)
        self.denied("/pool/other", "VM.Allocate", rest.post, self.env.path("qemu"), vmid=220, pool="other")
        rest.wait(rest.post(self.env.path("qemu"), vmid=220, pool="own", memory=64))
        rest.wait(rest.post(self.env.path("lxc"), vmid=221, pool="own", ostemplate=template, rootfs="local:0",
                            ostype="unmanaged"))
        self.assertEqual(rest.get(self.config(220))["memory"], "64")
        self.assertEqual({r["vmid"]: r["pool"] for r in rest.get("/cluster/resources", type="vm")},
                         {220: "own", 221: "own"})
        rest.wait(rest.delete(self.env.path("qemu", 220)))
        rest.wait(rest.delete(self.env.path("lxc", 221)))
        self.assertEqual(self.env.rest.get("/pools/own")["members"], [])

    def test_a_pool_that_is_not_there_leaves_nothing(self):
        with self.assertRaises(ApiError) as caught:
            self.env.rest.post(self.env.path("qemu"), vmid=222, pool="nowhere")
        self.assertIn("pool 'nowhere' does not exist", str(caught.exception))
        self.assertNotIn(222, [g["vmid"] for g in self.env.rest.get(self.env.path("qemu"))])

    def test_tasks_of_others_are_hidden(self):
        rest = self.user("nosy", Power="/vms/101")
        upid = self.env.rest.post(self.env.path("lxc", 101, "status", "start"))
        self.env.rest.wait(upid)
        self.assertEqual(rest.get(self.env.path("tasks")), [])
        with self.assertRaises(ApiError) as caught:
            rest.get(self.env.path("tasks", upid, "log"))
        self.assertEqual(caught.exception.status, 403)
        self.env.rest.wait(self.env.rest.post(self.env.path("lxc", 101, "status", "stop")))

    def test_what_is_taken_back_is_gone_within_a_second(self):
        rest = self.user("shortly", Look="/vms/100")
        rest.get(self.config())
        self.env.rest.put("/access/acl", path="/vms/100", users="shortly@pve", roles="Look", delete=1)

        def refused():
            try:
                rest.get(self.config())
            except ApiError as error:
                return error.status == 403
            return False
        wait_for("the rule to be gone", 20, refused)
        self.env.rest.put("/access/users/shortly@pve", enable=0)

        def shut_out():
            try:
                rest.get("/version")
            except ApiError as error:
                return error.status == 401
            return False
        wait_for("the user to be shut out", 20, shut_out)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
