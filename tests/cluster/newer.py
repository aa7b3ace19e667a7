"""The same tree, one version on: a method, a parameter, a field of what nodes tell each other more. For tests of upgrades."""
import os
import shutil
import subprocess

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
FOLDER = os.path.join(TOP, "build", "newer")
SOURCE = os.path.join(FOLDER, "src")
BUILD = os.path.join(FOLDER, "out")
VERSION = "0.2.0"

# file, what stands there, what stands there in the newer version
EDITS = [
    ("CMakeLists.txt", "project(atoll VERSION 0.1.0 ", f"project(atoll VERSION {VERSION} "),
    # a method
    ("proto/atoll/node/v1/node.proto", "  rpc GetTime(", """  rpc GetNewer(GetVersionRequest) returns (GetVersionReply) {
    option (atoll.api.v1.rest) = {
      get: "/nodes/{node}/newer"
      summary: "Shows the version a node runs, anew."
      perm: { user: true }
      idempotent: true
    };
  }

  rpc GetTime("""),
    ("services/compute-agent/node.c", '    {"GetVersion", get_version},',
     '    {"GetVersion", get_version},\n    {"GetNewer", get_version},'),
    # a parameter of a guest
    ("proto/atoll/lxc/v1/lxc.proto", "message Config {\n", """message Config {
  optional string newer = 990 [(atoll.api.v1.field) = { summary: "What an older version does not know." max_length: 40 }];
"""),
    # a field of what agents tell
    ("proto/atoll/store/v1/status.proto", "  optional uint32 cgroup_mode = 10;",
     "  optional string newer = 900;\n  optional uint32 cgroup_mode = 10;"),
    ("services/compute-agent/node.c", "    atoll__store__v1__node_status__init(node);",
     "    atoll__store__v1__node_status__init(node);\n    static char newer[] = \"newer\";\n    node->newer = newer;"),
]


def copy_tree():
    """What git knows of, and what is new and not ignored; unchanged files keep their times, for the build's sake."""
    listing = subprocess.run(["git", "-C", TOP, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True,
                             capture_output=True, text=True).stdout
    for name in filter(None, listing.split("\0")):
        source, target = os.path.join(TOP, name), os.path.join(SOURCE, name)
        if os.path.isfile(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(source, target)


def edit():
    for name, old, new in EDITS:
        path = os.path.join(SOURCE, name)
        with open(path, encoding="utf-8") as text:
            content = text.read()
        if content.count(old) != 1:
            raise SystemExit(f"{name}: {old!r} stands there {content.count(old)} times, not once: mend tests/cluster/newer.py")
        with open(path, "w", encoding="utf-8") as out:
            out.write(content.replace(old, new))


def build():
    """The folder of a build of the newer version."""
    copy_tree()
    edit()
    subprocess.run(["cmake", "--preset", "dev", "-S", SOURCE, "-B", BUILD], check=True, stdout=subprocess.DEVNULL, cwd=SOURCE)
    subprocess.run(["ninja", "-C", BUILD, "programs"], check=True, stdout=subprocess.DEVNULL)
    return BUILD
