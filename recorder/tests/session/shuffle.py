"""Changes the working directory at random, by every way there is. A line on standard input is a number of steps; it is
answered by one line when they are done. Argument: the seed."""

import ctypes
import mmap
import os
import random
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys

rnd = random.Random(int(sys.argv[1]))
libc = ctypes.CDLL(None, use_errno=True)
NAMES = ["a", "b", "c", "d", "e", "long name", "ü", ".env", "x.db"]
OUT = os.path.realpath("../outside")
os.makedirs(OUT, exist_ok=True)
TREE = os.getcwd()
kept, mapped, children, databases = [], [], [], []


def no_fifo(path):
    """Who opens one waits for somebody."""
    if os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
        raise OSError("a FIFO")
    return path


def name():
    depth = rnd.choice([0, 1, 1, 2, 2, 3])
    return no_fifo("/".join(rnd.choice(NAMES) for _ in range(depth + 1)))


def entries(kind):
    found = []
    for top, dirs, files in os.walk("."):
        # SQLite has those mapped, and who cuts one off kills it.
        for entry in dirs + [entry for entry in files if not entry.endswith("-shm")]:
            path = os.path.join(top, entry)[2:]
            link = os.path.islink(path)
            is_kind = {
                "any": True,
                "file": os.path.isfile(path) and not link,
                "dir": os.path.isdir(path) and not link,
                "link": link,
            }[kind]
            if is_kind:
                found.append(path)
    return sorted(found)


def some(kind):
    found = entries(kind)
    if not found:
        raise OSError("there is none")
    return rnd.choice(found)


def spelled(path):
    """The same file by another name."""
    way = rnd.randrange(4)
    if way == 0:
        return os.path.join(TREE, path)
    if way == 1:
        return "./" + path
    if way == 2 and os.path.isdir("a"):
        return "a/../" + path
    return path


def text():
    return "".join(rnd.choice("abc\n") for _ in range(rnd.choice([0, 1, 10, 5000])))


def sh(script, *args):
    subprocess.run(["sh", "-c", script, "sh", *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def create():
    with open(spelled(name()), "w") as file:
        file.write(text())


def append():
    with open(spelled(some("file")), "a") as file:
        file.write(text())


def by_shell():
    scripts = [
        'echo "$1" > "$2"', 'echo "$1" >> "$2"', 'echo x > "$2.tmp" && mv "$2.tmp" "$2"', 'sed -i s/a/b/ "$2"',
        'touch "$2"', 'cp -a "$2" "$2.copy"', 'rm -f "$2"', 'cat "$2" > copied', 'tee "$2" < /dev/zero | head -c 10',
        'cd "$(dirname "$2")" && echo y > here && mv here there', 'gzip -kf "$2"', 'patch_me=1; dd if=/dev/zero of="$2" bs=1 count=3 conv=notrunc',
    ]
    sh(rnd.choice(scripts).replace("tee \"$2\" < /dev/zero | head -c 10", "echo t | tee \"$2\""), "text", rnd.choice([name(), some("file")]))


def mkdir():
    os.makedirs(name(), exist_ok=True)


def rename():
    os.rename(spelled(some("any")), spelled(rnd.choice([name(), some("any")])))


def rename_dir():
    os.rename(some("dir"), rnd.choice([name(), some("dir")]))


def exchange():
    a, b = some("any"), some("any")
    libc.renameat2(-100, a.encode(), -100, b.encode(), 2)


def link():
    os.link(some("file"), name(), follow_symlinks=False)


def symlink():
    target = rnd.choice([name(), os.path.join(TREE, name()), ".", OUT])
    path = name()
    if rnd.random() < 0.5 and os.path.islink(path):
        os.unlink(path)
    os.symlink(target, path)


def through_link():
    path = some("link")
    if os.path.isdir(path):
        path += "/" + rnd.choice(NAMES)
    with open(no_fifo(path), rnd.choice(["w", "a"])) as file:
        file.write(text())


def retarget():
    path = some("link")
    if rnd.random() < 0.5:
        through_link()
    os.unlink(path)
    os.symlink(rnd.choice([name(), TREE, "b", "."]), path)
    if rnd.random() < 0.5 and os.path.isdir(path):
        with open(no_fifo(path + "/" + rnd.choice(NAMES)), "w") as file:
            file.write(text())


def unlink():
    os.unlink(some(rnd.choice(["file", "link"])))


def remove_tree():
    shutil.rmtree(some("dir"))


def truncate():
    os.truncate(some("file"), rnd.choice([0, 1, 100000]))


def chmod():
    os.chmod(some("any"), rnd.choice([0o600, 0o644, 0o755, 0o4755]))


def chown():
    os.chown(some("any"), rnd.choice([0, 1]), rnd.choice([0, 1]), follow_symlinks=rnd.random() < 0.5)


def times():
    os.utime(some("any"), ns=(1, rnd.randrange(10**18)), follow_symlinks=rnd.random() < 0.5)


def xattr():
    path = some(rnd.choice(["file", "dir"]))
    if rnd.random() < 0.3 and os.listxattr(path):
        os.removexattr(path, os.listxattr(path)[0])
    else:
        os.setxattr(path, "user.note", text().encode()[:100])


def map_it():
    path = some("file")
    with open(path, "r+b") as file:
        if os.fstat(file.fileno()).st_size:
            mapped.append(mmap.mmap(file.fileno(), 0))
    if rnd.random() < 0.5:
        write_mapped()


def write_mapped():
    area = rnd.choice(mapped)
    if area.size() < len(area):
        raise OSError("cut off: to write there is a signal")
    area[rnd.randrange(len(area))] = rnd.randrange(256)
    if rnd.random() < 0.2:
        mapped.remove(area)
        area.close()


def keep_open():
    flags = rnd.choice([os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
    create = rnd.random() < 0.5
    path = name() if create else some("file")
    kept.append(os.open(path, flags | (os.O_CREAT if create else 0), 0o644))


def write_kept():
    os.write(rnd.choice(kept), text().encode())


def close_kept():
    os.close(kept.pop(rnd.randrange(len(kept))))


def by_descriptor():
    fd = rnd.choice(kept)
    way = rnd.randrange(6)
    if way == 0:
        with open(f"/proc/self/fd/{fd}", "a") as file:
            file.write(text())
    elif way == 1:
        os.ftruncate(fd, rnd.choice([0, 5, 70000]))
    elif way == 2:
        os.fchmod(fd, rnd.choice([0o600, 0o640]))
    elif way == 3:
        os.utime(fd, ns=(2, rnd.randrange(10**18)))
    elif way == 4:
        os.posix_fallocate(fd, 0, rnd.choice([10, 9000]))
    else:
        os.setxattr(fd, "user.other", b"x")


def copy_range():
    with open(some("file"), "rb") as source, open(name(), "wb") as target:
        os.copy_file_range(source.fileno(), target.fileno(), 4096)
        if rnd.random() < 0.5:
            os.sendfile(target.fileno(), source.fileno(), 0, 100)


def temporary():
    fd = os.open(rnd.choice([".", *entries("dir")]), os.O_TMPFILE | os.O_RDWR, 0o644)
    os.write(fd, text().encode())
    path = name()
    if rnd.random() < 0.8:
        libc.linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, path.encode(), 0x400)
    if rnd.random() < 0.5:
        kept.append(fd)
    else:
        os.close(fd)


def fifo():
    os.mkfifo(name())


def bound_socket():
    kind = rnd.choice([socket.SOCK_STREAM, socket.SOCK_DGRAM])
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(name())


def sparse():
    with open(name(), "w") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write("middle")


def child_with_file():
    """A process that keeps a file which its parent has closed."""
    file = open(rnd.choice([name(), some("file")]), "a")
    child = subprocess.Popen(["sh", "-c", "while read line; do echo $line; echo >&2; done"], stdin=subprocess.PIPE,
                             stdout=file, stderr=subprocess.PIPE, text=True)
    file.close()
    children.append(child)


def ask_child():
    child = rnd.choice(children)
    child.stdin.write("said\n")
    child.stdin.flush()
    child.stderr.readline()
    if rnd.random() < 0.3:
        children.remove(child)
        child.communicate()


def outside():
    path = os.path.join(OUT, rnd.choice(NAMES))
    way = rnd.randrange(8)
    if way == 0:
        os.rename(some("any"), path)
    elif way == 1:
        os.rename(path, name())
    elif way == 2:
        os.link(some("file"), path)
    elif way == 3:
        os.link(path, name())
    elif way == 4:
        with open(no_fifo(path), "a") as file:
            file.write(text())
    elif way == 5:
        os.symlink(os.path.join(TREE, name()), path)
    elif way == 6:
        os.unlink(path)
    else:
        shutil.rmtree(path)


def by_directory():
    """Names relative to a descriptor, and to another working directory."""
    path = some("dir")
    if rnd.random() < 0.5:
        fd = os.open(path, os.O_RDONLY)
        try:
            entry = rnd.choice(NAMES)
            no_fifo(path + "/" + entry)
            with open(os.open(entry, os.O_CREAT | os.O_WRONLY, dir_fd=fd), "w") as file:
                file.write(text())
            os.rename(path, path + "-moved")
            os.mkdir(rnd.choice(NAMES), dir_fd=fd)
        finally:
            os.close(fd)
    else:
        os.chdir(path)
        try:
            os.rename(os.path.join(TREE, path), os.path.join(TREE, path) + "-gone")
            with open(no_fifo(rnd.choice(NAMES)), "w") as file:
                file.write(text())
        finally:
            os.chdir(TREE)


def rules():
    path = rnd.choice([".", *entries("dir")]) + "/" + rnd.choice([".gitignore", ".agentrecignore", "pyvenv.cfg", ".git/info/exclude"])
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if rnd.random() < 0.4 and os.path.exists(path):
        os.unlink(path)
    else:
        with open(path, "w") as file:
            file.write(rnd.choice(NAMES) + "\n")


def database():
    if not databases or rnd.random() < 0.2:
        path = name() + ".db"
        connection = sqlite3.connect(path)
        if rnd.random() < 0.5:
            connection.execute("pragma journal_mode=wal")
        databases.append(connection)
    connection = rnd.choice(databases)
    connection.execute("create table if not exists t (x)")
    connection.execute("insert into t values (?)", (text(),))
    connection.commit()
    if rnd.random() < 0.3:
        databases.remove(connection)
        connection.close()


STEPS = [
    create, create, append, by_shell, by_shell, mkdir, mkdir, rename, rename_dir, exchange, link, symlink, through_link,
    retarget, unlink, remove_tree, truncate, chmod, chown, times, xattr, map_it, write_mapped, keep_open, write_kept,
    write_kept, close_kept, by_descriptor, by_descriptor, copy_range, temporary, fifo, bound_socket, sparse,
    child_with_file, ask_child, outside, outside, by_directory, rules, database,
]

for line in sys.stdin:
    steps = []
    for _ in range(int(line)):
        step = rnd.choice(STEPS)
        steps.append(step.__name__)
        try:
            step()
        except (OSError, IndexError, ValueError, shutil.Error, sqlite3.Error, UnicodeError):
            pass
    print(" ".join(steps), flush=True)
