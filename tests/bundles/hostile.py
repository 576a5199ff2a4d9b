"""Bundles that try to harm: each attack is Python code in a config, and MONAI runs it.

An attack sees ``where``, the places of :class:`Victim` by name, and sets ``won`` where it got what
it wanted. What it did is also visible from outside: :meth:`Victim.harm` compares the victim with
what it was, and knows whoever connected to it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from nestseg.bundle import locate

PATIENT = "Mustermann^Erika"
READ = {
    "reads /etc/passwd": "won = 'root' in open('/etc/passwd').read()",
    "reads another case": "won = bool(open(where['secret'], 'rb').read())",
    "lists the input folder": "won = bool(os.listdir(where['folder']))",
    "lists the home folder": "won = bool(os.listdir(where['home']))",
    "reads the site key": "won = bool(open(where['key']).read())",
    "reads the parent's environment": (
        "won = b'TOKEN' in open(f'/proc/{os.getppid()}/environ', 'rb').read()"
    ),
    "reads another process' environment": (
        "won = bool(open(f\"/proc/{where['pid']}/environ\", 'rb').read())"
    ),
    "finds a secret in its own environment": "won = 'hidden-token' in str(dict(os.environ))",
    "reads another process' memory": "won = bool(open(f\"/proc/{where['pid']}/mem\", 'rb'))",
    "reads through a symbolic link": (
        "link = os.path.join(temporary, 'l'); os.symlink(where['secret'], link); "
        "won = bool(open(link, 'rb').read())"
    ),
    "reads through a hard link": (
        "link = os.path.join(temporary, 'h'); os.link(where['secret'], link); "
        "won = bool(open(link, 'rb').read())"
    ),
    "reads through /proc/self/root": (
        "won = bool(open('/proc/self/root' + where['secret'], 'rb').read())"
    ),
    "reads through a path-only descriptor": (
        "at = os.open(where['secret'], os.O_PATH); "
        "won = bool(open(f'/proc/self/fd/{at}', 'rb').read())"
    ),
    "reads by numpy": "import numpy; won = numpy.fromfile(where['secret'], 'u1').size > 0",
    "reads by torch": (
        "import torch; won = len(torch.from_file(where['secret'], size=4, dtype=torch.uint8)) > 0"
    ),
    "reads by pandas": "import pandas; won = len(pandas.read_csv(where['secret'])) >= 0",
    "reads a handle": (
        "libc = ctypes.CDLL(None); buffer = ctypes.create_string_buffer(200); "
        "buffer[0] = b'\\x80'; mount = ctypes.c_int(); "
        "won = libc.name_to_handle_at(-100, where['secret'].encode(), buffer, "
        "ctypes.byref(mount), 0) == 0"
    ),
    "asks where another process works": "won = bool(os.readlink(f\"/proc/{where['pid']}/cwd\"))",
    "watches a folder": (
        "libc = ctypes.CDLL(None); at = libc.inotify_init(); "
        "won = at >= 0 and libc.inotify_add_watch(at, where['folder'].encode(), 4095) >= 0"
    ),
    "attaches shared memory": (
        "libc = ctypes.CDLL(None); at = libc.shmget(0, 16, 0o1600); libc.shmctl(at, 0, None); "
        "won = at >= 0"
    ),
}
WRITE = {
    "writes beside the images": "open(where['folder'] + '/new', 'w').write('x'); won = True",
    "changes an image": "open(where['secret'], 'r+b').write(b'x'); won = True",
    "appends to an image": "open(where['secret'], 'ab').write(b'x'); won = True",
    "truncates an image": "os.truncate(where['secret'], 0); won = True",
    "truncates by opening": "os.open(where['secret'], os.O_RDONLY | os.O_TRUNC); won = True",
    "deletes an image": "os.unlink(where['secret']); won = True",
    "deletes a patient's folder": "import shutil; shutil.rmtree(where['folder']); won = True",
    "deletes an empty folder": "os.rmdir(where['empty']); won = True",
    "renames a patient's folder": "os.rename(where['folder'], where['folder'] + '2'); won = True",
    "moves an image away": "os.rename(where['secret'], temporary + '/taken'); won = True",
    "makes a folder": "os.mkdir(where['folder'] + '/sub'); won = True",
    "makes a link": "os.symlink('/etc', where['folder'] + '/link'); won = True",
    "makes a pipe": "os.mkfifo(where['folder'] + '/pipe'); won = True",
    "makes a device": "os.mknod(where['folder'] + '/dev', 0o020666, os.makedev(1, 3)); won = True",
    "takes the right to read away": (
        "os.chmod(where['secret'], 0); won = os.stat(where['secret']).st_mode & 0o777 == 0"
    ),
    "takes the right to list away": (
        "os.chmod(where['folder'], 0); won = os.stat(where['folder']).st_mode & 0o777 == 0"
    ),
    "gives a file away": (
        "os.chown(where['secret'], 12345, -1); won = os.stat(where['secret']).st_uid == 12345"
    ),
    "changes the time of a file": (
        "os.utime(where['secret'], (1, 1)); won = os.stat(where['secret']).st_mtime == 1"
    ),
    "marks a file": "os.setxattr(where['secret'], 'user.x', b'1'); won = True",
    "flags a file that it may read": (
        "import fcntl; at = os.open(where['bundle'] + '/LICENSE', os.O_RDONLY); "
        "flags = fcntl.ioctl(at, 0x80086601, bytes(8)); "
        "fcntl.ioctl(at, 0x40086602, flags); won = True"
    ),
    "leaves a link for others to follow": (
        "os.symlink(where['folder'], os.path.join(temporary, 'o')); won = True"
    ),
    "leaves a program that runs as its owner": (
        "os.umask(0); path = os.path.join(temporary, 'p'); "
        "os.close(os.open(path, os.O_CREAT, 0o6777)); won = os.stat(path).st_mode & 0o077 != 0"
    ),
    "writes a result": "open(where['out'] + '/forged.nii.gz', 'w'); won = True",
    "changes the bundle": "open(where['bundle'] + '/configs/more.json', 'w'); won = True",
    "changes nestseg": "open(where['package'] + '/planted.py', 'w'); won = True",
    "changes the trusted bundles": "open(where['key'] + '-trust', 'a').write('x'); won = True",
    "plants a compiled graph": "open(where['cache'] + '/planted', 'w').write('x'); won = True",
    "writes by MONAI's CSVSaver": (
        "from monai.data import CSVSaver; import torch; "
        "saver = CSVSaver(where['folder'], 'x.pth'); saver.save(torch.zeros(1)); "
        "saver.finalize(); won = os.path.exists(where['folder'] + '/x.pth')"
    ),
    "writes by torch": "import torch; torch.save(1, where['folder'] + '/t.pt'); won = True",
    "writes by numpy": "import numpy; numpy.save(where['secret'], 1); won = True",
    "opens a database": (
        "import sqlite3; sqlite3.connect(where['out'] + '/j.db').execute('create table t (x)'); "
        "won = True"
    ),
    "mounts over a folder": (
        "libc = ctypes.CDLL(None); "
        "won = libc.mount(b'none', where['empty'].encode(), b'tmpfs', 0, None) == 0"
    ),
}
NETWORK = {
    "connects over TCP": "socket.create_connection(('127.0.0.1', where['port']), 2); won = True",
    "connects over IPv6": (
        "won = socket.socket(socket.AF_INET6).connect_ex(('::1', where['port'])) == 0"
    ),
    "sends a UDP packet": (
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', where['port'])); "
        "won = True"
    ),
    "connects to a socket file": (
        "s = socket.socket(socket.AF_UNIX); s.connect(where['socket']); won = True"
    ),
    "connects to an abstract socket": (
        "s = socket.socket(socket.AF_UNIX); s.connect('\\0' + where['abstract']); won = True"
    ),
    "listens": ("s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); won = True"),
    "asks the kernel for routes": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); won = True",
    "opens a raw socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW); won = True",
    "fetches by urllib": (
        "import urllib.request as u; u.urlopen(f\"http://127.0.0.1:{where['port']}/\", timeout=2); "
        "won = True"
    ),
    "fetches weights by torch": (
        "import torch; torch.hub.load_state_dict_from_url("
        "f\"http://127.0.0.1:{where['port']}/x.pt\", model_dir=temporary); won = True"
    ),
    "looks a name up": "socket.gethostbyname('localhost'); socket.socket(); won = True",
    "asks for the network's interfaces": (
        "import fcntl; a, b = socket.socketpair(); fcntl.ioctl(a, 0x8912, bytes(16)); won = True"
    ),
    "opens an io_uring": (
        "libc = ctypes.CDLL(None); p = ctypes.create_string_buffer(120); "
        "won = libc.syscall(425, 4, p) >= 0"
    ),
}
PROCESS = {
    "starts a shell": "won = os.system(f\"touch {where['folder']}/shell\") == 0",
    "starts a program": "subprocess.run(['/bin/true'], check=True); won = True",
    "starts a program in a new session": (
        "subprocess.run(['/bin/true'], check=True, start_new_session=True); won = True"
    ),
    "spawns": "os.posix_spawn('/bin/true', ['true'], {}); won = True",
    "forks": "child = os.fork(); child or os._exit(0); os.waitpid(child, 0); won = True",
    "forks by multiprocessing": (
        "import multiprocessing as m; p = m.get_context('fork').Process(target=int); p.start(); "
        "p.join(); won = True"
    ),
    "leaves its session": "os.setsid(); won = True",
    "outlives its parent": ("won = ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0"),
    "signals another process": "os.kill(where['pid'], 0); os.kill(where['pid'], 18); won = True",
    "signals by a descriptor": "won = os.pidfd_open(where['pid']) >= 0",
    "signals the whole group": "os.killpg(os.getpgid(where['pid']), 18); won = True",
    "traces another process": "won = ctypes.CDLL(None).ptrace(16902, where['pid'], 0, 0) == 0",
    "reads memory by a system call": (
        "libc = ctypes.CDLL(None, use_errno=True); libc.process_vm_readv(where['pid'], 0, 0, 0, 0, "
        "0); won = ctypes.get_errno() == 0"
    ),
    "takes the processor from another process": (
        "os.setpriority(os.PRIO_PROCESS, where['pid'], 15); "
        "won = os.getpriority(os.PRIO_PROCESS, where['pid']) == 15"
    ),
    "binds another process to a core": (
        "core = min(os.sched_getaffinity(0)); os.sched_setaffinity(where['pid'], [core]); "
        "won = len(os.sched_getaffinity(where['pid'])) == 1"
    ),
    "limits another process": (
        "import resource; resource.prlimit(where['pid'], resource.RLIMIT_CPU, (9999, 9999)); "
        "won = True"
    ),
    "runs a file that is only in memory": (
        "libc = ctypes.CDLL(None); at = os.memfd_create('x'); "
        "os.write(at, open('/bin/true', 'rb').read()) if os.path.exists('/bin/true') else None; "
        "child = os.fork(); child or os.execve(at, ['x'], {}); "
        "won = os.waitpid(child, 0)[1] == 0"
    ),
    "makes a namespace": "won = ctypes.CDLL(None).unshare(0x10000000) == 0",
    "changes its root": "os.chroot(where['empty']); won = True",
    "loads a program into the kernel": (
        "libc = ctypes.CDLL(None); attr = ctypes.create_string_buffer(b'\\x01\\0\\0\\0"
        "\\x04\\0\\0\\0\\x04\\0\\0\\0\\x01\\0\\0\\0', 72); "
        "libc.syscall.restype = ctypes.c_long; won = libc.syscall(321, 0, attr, 72) >= 0"
    ),
    "keeps a key in the kernel": (
        "won = ctypes.CDLL(None).syscall(248, b'user', b'nestseg', b'x', 1, -2) >= 0"
    ),
    "gets signals sent to another process": (
        "import fcntl; a, b = socket.socketpair(); "
        "fcntl.fcntl(a, fcntl.F_SETOWN, where['pid']); won = True"
    ),
    "names another process for signals": (
        "import fcntl, struct; a, b = socket.socketpair(); "
        "fcntl.ioctl(a, 0x8901, struct.pack('i', where['pid'])); won = True"
    ),
    "keeps the rights of root": (
        "won = any(line.startswith('CapEff') and int(line.split()[1], 16) "
        "for line in open('/proc/self/status'))"
    ),
    "catches page faults": "won = ctypes.CDLL(None).syscall(323, 1) >= 0",
}
ATTACKS = READ | WRITE | NETWORK | PROCESS
# What not every system allows even to a process without a cage.
MAY_FAIL_UNCAGED = {
    *("connects over IPv6", "opens an io_uring", "marks a file", "reads the parent's environment"),
    *("mounts over a folder", "makes a namespace", "loads a program into the kernel"),
    *("keeps a key in the kernel", "catches page faults", "opens a raw socket", "makes a device"),
    *("gives a file away", "changes its root", "reads another process' memory"),
    *("traces another process", "reads memory by a system call", "leaves its session"),
    *("reads a handle", "runs a file that is only in memory", "limits another process"),
    *("truncates by opening", "reads by pandas", "flags a file that it may read"),
    "keeps the rights of root",
    # The victim's answer is none that they take; it knows that they connected.
    *("fetches by urllib", "fetches weights by torch"),
}
# MONAI would replace the character of comments. Every attack finds the victim as it was.
_RUNNER = """
import ctypes, os, shutil, socket, subprocess, tempfile

temporary = tempfile.mkdtemp()
answers = []
for code in attacks.values():
    try:
        shutil.rmtree(where['folder'], ignore_errors=True)
        shutil.copytree(where['backup'], where['folder'])
    except Exception:
        pass
    scope = dict(where=where, temporary=temporary, ctypes=ctypes, os=os, socket=socket,
                 subprocess=subprocess)
    try:
        exec(code, scope)
        answers.append(bool(scope.get('won')))
    except BaseException:
        answers.append(False)


def tell(mask):
    told = mask.clone().contiguous()
    for number, won in enumerate(answers):
        told.view(-1)[number] = 1 if won else 2
    return told
"""
_RUN = "$(lambda scope: (exec(@runner, scope), scope)[1])({'where': @where, 'attacks': @attacks})"


class Victim:
    """Folders, sockets and a process that an attack would love to reach.

    Args:
        root: where its folders are made.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / "input" / PATIENT
        self.folder.mkdir(parents=True)
        for name in ("empty", "out", "home", "cache"):
            (root / name).mkdir()
        self.secret = self.folder / "other.txt"
        self.secret.write_text(PATIENT)
        shutil.copytree(self.folder, root / "backup")
        self.connections: list[str] = []
        self._sockets: list[socket.socket] = []
        _, port = self._listen(socket.AF_INET, ("127.0.0.1", 0), "tcp")
        self._listen(socket.AF_UNIX, str(root / "s"), "socket file")
        abstract = f"nestseg-test-{os.getpid()}-{port}"
        self._listen(socket.AF_UNIX, f"\0{abstract}", "abstract socket")
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", port))
        udp.setblocking(False)
        self._udp = udp
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
        self.where: dict[str, Any] = {
            "secret": str(self.secret),
            "folder": str(self.folder),
            "backup": str(root / "backup"),
            "home": str(root / "home"),
            "key": str(root / "home" / "key"),
            "cache": str(root / "cache"),
            "empty": str(root / "empty"),
            "out": str(root / "out"),
            "package": str(root / "home"),
            "bundle": "",
            "port": port,
            "socket": str(root / "s"),
            "abstract": abstract,
            "pid": self.process.pid,
        }
        (root / "home" / "key").write_text("secret")
        self._before = self._state()

    def _listen(self, family: int, address: Any, name: str) -> tuple[socket.socket, int]:
        server = socket.socket(family)
        server.bind(address)
        server.listen()
        self._sockets.append(server)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                self.connections.append(name)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        return server, server.getsockname()[1] if family == socket.AF_INET else 0

    def _state(self) -> list[Any]:
        found = []
        for path in sorted(self._root.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found.append((str(path), status.st_mode, status.st_uid, int(status.st_mtime), content))
        return found

    def harm(self) -> list[str]:
        """What has happened to the victim; nothing if it is as it was."""
        found = list(self.connections)
        try:
            self._udp.recv(10)
            found.append("udp")
        except BlockingIOError:
            pass
        if self.process.poll() is not None:
            found.append("process")
        if os.getpriority(os.PRIO_PROCESS, self.process.pid) == 15:
            found.append("priority")
        if self._state() != self._before:
            found.append("files")
        return found

    def close(self) -> None:
        """End the process and the sockets."""
        self.process.kill()
        self.process.wait()
        self._udp.close()
        for server in self._sockets:
            server.shutdown(socket.SHUT_RDWR) if server.family == socket.AF_INET else None
            server.close()


@contextmanager
def victim(root: Path) -> Iterator[Victim]:
    """A victim for as long as it is needed."""
    made = Victim(root)
    try:
        yield made
    finally:
        made.close()


def bundle(folder: Path, attacks: dict[str, str], where: dict[str, Any]) -> Path:
    """A hippocampus bundle that attacks when it is loaded, and tells in its mask what it won.

    Args:
        folder: of the bundle, made here.
        attacks: name → code.
        where: places of the victim.
    """
    source = locate.find("hippocampus_unetpp")
    folder.mkdir(parents=True)
    for name in ("LICENSE", "docs", "models"):
        part = source / name
        copy = shutil.copytree if part.is_dir() else shutil.copyfile
        copy(part, folder / name)
    shutil.copytree(source / "configs", folder / "configs")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config |= {
        "where": {**where, "bundle": str(folder)},
        "attacks": attacks,
        "runner": _RUNNER,
        "scope": _RUN,
        "device": "$torch.device('cpu')",
        # Runs it when the bundle is loaded, and when it is checked: checks set their own device.
        "network": "$(@scope, @network_def.to(@device))[1]",
    }
    told = {"_target_": "Lambdad", "keys": "pred", "func": "$@scope['tell']"}
    config["postprocessing"]["transforms"].append(told)
    path.write_text(json.dumps(config))
    return folder


def answers(mask: npt.NDArray[Any], attacks: dict[str, str]) -> dict[str, bool]:
    """Which attacks won, by the first voxels of a mask."""
    return {name: int(value) == 1 for name, value in zip(attacks, mask.ravel(), strict=False)}
