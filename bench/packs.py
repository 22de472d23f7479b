"""The rows of bench/run that are about packs, each beside the tools that anybody has: tar -S, zstd and curl.

Prepared beforehand, and in no figure: memory files as `make_memory` of tine-pack makes them and the memory of a guest
that has worked, and the images of them in the pool, each unpacked from a pack that tar and zstd have made here. All
files lie in the pool's file system, but for the packs of the row `pack`, which lie outside. Within every figure: whole
commands, and what they write made durable: `tine` does that by itself, its peers with `sync`.

The figures of the tool that defined the first layout are fixed words: they are those of its authors' machine. What it
does, a digest of each file and then one thread that compresses, stock tools do here beside it, and make nothing durable.
Where TINE_BENCH_V1_TOOL names the program of that tool, it is timed in the same turns; it makes nothing durable either.
"""
import glob, hashlib, os, random, shutil, socket, statistics, subprocess, time

import machines
from common import QUIET, TARGET, Case, command, drop_caches, rounds, sh, timed

MIB, PAGE = 1 << 20, 4096
MAKE_MEMORY = os.path.join(TARGET, "release/examples/make_memory")
PEER = "`tar -S`, `zstd -T0 -3`"
STEPS = "`openssl sha256`, `tar -S`, `zstd -3`, one thread, nothing made durable"
STEPS_BACK = "`tar -x`, `zstd -d`, then `openssl sha256`, nothing made durable"
TOOL = os.environ.get("TINE_BENCH_V1_TOOL")
TOOL_NAME = "the tool that defined v1, nothing made durable"
SMALL, LARGE = (512, 80), (2048, 85)          # MiB of memory, and how much of it is zero
GUEST = (2048, "guest")                       # MiB of the memory of a guest
# what the guest does: reads its libraries, holds what is compressed already (as wheels, archives and pictures are), and keeps a
# heap of objects; so much of each that as many pages hold something, and as many bytes remain, as in the memory that the tool
# that defined the first layout gives its figures for
WORK = ("find /usr/lib -xdev -type f -print0 | xargs -0 cat >/dev/null; head -c 85M /dev/urandom >/run/compressed; "
        "perl -e '$| = 1; %h = map { (qq(key$_) => {number => $_, text => qq(value of $_)}) } 1..25000; print qq(ready\\n); sleep 1e6' "
        ">/run/heap 2>&1 &")
DISK = 1536
ELSEWHERE = {   # seconds and bytes of its packing, seconds of its unpacking
    SMALL: (1.10, 49_172_277, 0.74),
    LARGE: (4.2, 148_025_092, 3.1),
    "chain": (5.9, 250_999_422, 4.0),
    "sidecar": (527, None, None),
}
ELSEWHERE[GUEST] = ELSEWHERE[LARGE]
SUMMARY, PREPARED, SERVERS = [], {}, []


def row(what, reach, measured, peer="", elsewhere=""):
    SUMMARY.append(f"| {what} | {reach} | {measured} | {peer} | {elsewhere} |")


def summary():
    if SUMMARY:
        print("\n### Packs: what was to be reached\n\n| what | reach | measured | beside its peer | its own figures, elsewhere |")
        print("| --- | --- | --- | --- | --- |", *SUMMARY, sep="\n")


def mebibytes(full):
    return min(full, int(os.environ.get("TINE_BENCH_PACK_MIB", full)))


def table(title, sides, runs):
    """Times the cases in turns. A side is a case, what gives the bytes it has made, and the figures from elsewhere."""
    timed([case for case, _, _ in sides], runs)
    show(title, sides)


def show(title, sides):
    print(f"\n### {title}\n\n| what | median | min | max | runs | bytes | its own figures, elsewhere |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for case, size, elsewhere in sides:
        if case.reason or not case.times:
            print(f"| {case.name} | not run: {case.reason} | | | | | {elsewhere} |")
            continue
        low, middle, high = (seconds(case, of) for of in (min, statistics.median, max))
        print(f"| {case.name} | {middle:.2f} s | {low:.2f} | {high:.2f} | {len(case.times)} | {size():,} | {elsewhere} |", flush=True)


def seconds(case, of=statistics.median):
    return of(case.times) / 1e3 if case.times and not case.reason else float("nan")


def speed(theirs, ours):
    return f"{theirs / ours:.1f} × as fast"


def elsewhere(what, text):
    """What is fixed, where what is measured here is of the same size."""
    full = {"chain": SMALL[0], "sidecar": DISK}.get(what) or what[0]
    here = disk_mebibytes() if what == "sidecar" else mebibytes(full)
    return text if here == full else "(another size)"


def disk_mebibytes():
    return int(os.environ.get("TINE_BENCH_SIDECAR_MIB", DISK))


def length(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def allocated(*paths):
    return sum(os.stat(path).st_blocks * 512 for path in paths if os.path.exists(path))


# what is prepared

def folder(pool, name):
    path = f"{pool.root}/tmp/packs/{name}"
    os.makedirs(path, exist_ok=True)
    return path


def carried(pool, name):
    """A folder for packs, which people carry about: outside the pool, in the host's own file system."""
    path = f"{pool.dir}/packs/{name}"
    os.makedirs(path, exist_ok=True)
    return path


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_memory(mib, zero, path):
    sh(MAKE_MEMORY, mib, zero, path)
    with open(os.path.join(os.path.dirname(path), "vmstate"), "wb") as file:
        file.write(random.Random(mib).randbytes(20_000))


def files_of(path, prefix=""):
    """The TOML of the files in a folder, for a manifest of the older layouts."""
    entry = '\n[[{}files]]\npath = "{}"\nsize = {}\nsha256 = "{}"\n'
    names = [name for name in ("vmstate", "memory.bin") if os.path.exists(f"{path}/{name}")]
    return "".join(entry.format(prefix, name, length(f"{path}/{name}"), sha256(f"{path}/{name}")) for name in names)


def manifest(path, layout, tag, rest):
    with open(f"{path}/manifest.toml", "w") as file:
        file.write(f'forkd_pack_version = {layout}\ntag = "{tag}"\ncreated_at = "2026-01-01T00:00:00Z"\nforkd_version = "bench"\n{rest}')


def tar_zstd(path, out, *names, sparse="-S"):
    """A shell command that packs what lies in a folder, and makes it durable."""
    words = " ".join(names)
    return f"cd {path} && tar {sparse} --format=gnu -cf - {words} | zstd -T0 -3 -q -f -o {out} && sync {out}"


def shell(script):
    return command("bash", "-o", "pipefail", "-c", script)


def image(pool, size):
    """The tag of an image with such a memory, and the folder of its files."""
    mib, zero = mebibytes(size[0]), size[1]
    tag = f"memory-{mib}-{zero}"
    path = folder(pool, tag)
    if tag not in PREPARED:
        if zero == "guest":
            guest_memory(pool, mib, path)
        else:
            make_memory(mib, zero, f"{path}/memory.bin")
        manifest(path, 1, tag, files_of(path))
        shell(tar_zstd(path, f"{path}/first.tar.zst", "manifest.toml", "vmstate", "memory.bin"))()
        pool.tine("unpack", f"{path}/first.tar.zst")
        PREPARED[tag] = mib
    return tag, path


def made_here(pool, tag, path):
    """The tag of the same image as if baked here: nobody has said what its SHA-256 is."""
    made = f"{tag}-here"
    if made not in PREPARED:
        pool.tine("pack", "--tag", tag, "--format", "v3", "-o", f"{path}/here.pack")
        pool.tine("unpack", "--tag", made, f"{path}/here.pack")
        PREPARED[made] = tag
    return made


def guest_memory(pool, mib, path):
    """The memory and the state of a guest that has worked."""
    machines.kernel(pool)
    pool.tine("image", "bake", "guest", "--base", "box-base", "--memory", f"{mib}MiB", "--net", "none", "--run", WORK,
              "--ready", "grep -q ready /run/heap")
    memory = memory_of(pool, "guest")
    sh("cp", "--sparse=always", memory, f"{path}/memory.bin")
    shutil.copy(f"{os.path.dirname(memory)}/vmstate", path)
    pool.tine("--yes", "image", "delete", "guest")


def memory_of(pool, tag):
    found = glob.glob(f"{pool.root}/images/{tag}/**/memory.bin", recursive=True)
    return found[0] if found else ""


def delete(pool, *tags):
    def run():
        for tag in tags:
            pool.tine("--yes", "image", "delete", tag)
    return run


# the rows

def pack(pool):
    for size in (SMALL, LARGE, GUEST):
        packed = packing(pool, size)
        unpacked = unpacking(pool, size)
        if size != SMALL:
            report(size, title_of(*image(pool, size)), packed, unpacked)


def title_of(tag, path):
    """Of what: how much memory, whose, and how much of it is zero."""
    _, mib, zero = tag.split("-")
    if zero != "guest":
        return f"{int(mib):,} MiB, {zero} % zero"
    memory = f"{path}/memory.bin"
    return f"{int(mib):,} MiB of a guest, {100 - 100 * allocated(memory) / length(memory):.0f} % zero"


def packing(pool, size):
    tag, path = image(pool, size)
    time_there, bytes_there, _ = ELSEWHERE[size]
    there = elsewhere(size, f"{time_there} s, {bytes_there:,} bytes")
    sides, packs = [], carried(pool, tag)
    for what, layout, packed in (("v3", "v3", tag), ("v1, of what came as v1", "v1", tag), ("v1, of what was made here", "v1", made_here(pool, tag, path))):
        out = f"{packs}/{packed if packed != tag else layout}.pack"
        case = Case(f"`tine pack`, {what}", command(*pool.words("pack", "--tag", packed, "--format", layout, "-o", out)),
                    before=lambda out=out: remove(out))
        sides.append((case, lambda out=out: length(out), there if layout == "v1" else ""))
    out, slow = f"{packs}/peer.pack", f"{packs}/steps.pack"
    sides.append((Case(PEER, shell(tar_zstd(path, out, "vmstate", "memory.bin"))), lambda: length(out), ""))
    steps = f"cd {path} && openssl sha256 vmstate memory.bin && tar -S --format=gnu -cf - vmstate memory.bin | zstd --single-thread -3 -q -f -o {slow}"
    sides.append((Case(STEPS, shell(steps)), lambda: length(slow), ""))
    if TOOL:
        made = f"{packs}/tool.pack"
        sides.append((Case(TOOL_NAME, tool(path, "pack", "--tag", "memory", "--out", made)), lambda: length(made), ""))
    table(f"pack of {title_of(tag, path)}, durable", sides, rounds(7))
    return sides


def unpacking(pool, size):
    tag, path = image(pool, size)
    there = elsewhere(size, f"{ELSEWHERE[size][2]} s, nothing left out")
    sides, seen, packs = [], {}, carried(pool, tag)
    for layout in ("v3", "v1"):
        case = Case(f"`tine unpack`, {layout}", command(*pool.words("unpack", "--tag", "unpacked", f"{packs}/{layout}.pack")),
                    after=look(seen, layout, lambda: memory_of(pool, "unpacked"), delete(pool, "unpacked")))
        sides.append((case, lambda layout=layout: seen.get(layout, 0), there if layout == "v1" else ""))
    target = f"{path}/unpacked"
    peer = f"mkdir {target} && zstd -dcq {packs}/peer.pack | tar -xf - -C {target} && sync {target}/*"
    case = Case(PEER.replace("-S", "-x").replace("-T0 -3", "-d"), shell(peer),
                after=look(seen, "peer", lambda: f"{target}/memory.bin", lambda: shutil.rmtree(target)))
    sides.append((case, lambda: seen.get("peer", 0), ""))
    steps = f"mkdir {target} && zstd -dcq {packs}/peer.pack | tar -xf - -C {target} && openssl sha256 {target}/* >/dev/null"
    case = Case(STEPS_BACK, shell(steps), after=look(seen, "steps", lambda: f"{target}/memory.bin", lambda: shutil.rmtree(target)))
    sides.append((case, lambda: seen.get("steps", 0), ""))
    if TOOL:
        made = f"{path}/forkd/snapshots/unpacked"
        case = Case(TOOL_NAME, tool(path, "unpack", f"{packs}/tool.pack", "--tag", "unpacked"),
                    after=look(seen, "tool", lambda: f"{made}/memory.bin", lambda: shutil.rmtree(made)))
        sides.append((case, lambda: seen.get("tool", 0), ""))
    table(f"unpack of {title_of(tag, path)}, durable; bytes are those allocated for the memory", sides, rounds(7))
    print(f"\nThe file that was packed has {allocated(f'{path}/memory.bin'):,} bytes allocated.")
    return sides


def tool(path, *words):
    """A command of the tool that defined the first layout, which finds the files of this folder as its snapshot `memory`."""
    snapshots = f"{path}/forkd/snapshots"
    os.makedirs(snapshots, exist_ok=True)
    if not os.path.islink(f"{snapshots}/memory"):
        os.symlink(path, f"{snapshots}/memory")
    return command(TOOL, *words, env={**os.environ, "XDG_DATA_HOME": path, "TMPDIR": path})


def look(seen, name, path, then):
    """Afterwards: how much a file takes, then away with it."""
    def run():
        seen[name] = allocated(path())
        then()
    return run


def report(size, what, packed, unpacked):
    time_there, bytes_there, unpack_there = ELSEWHERE[size]
    (v3, v3_bytes, _), (v1, v1_bytes, _), (anew, anew_bytes, _), (peer, peer_bytes, _), (steps, _, _), *itself = packed
    slower = "≥ 2.5 × faster, not larger"
    for name, reach, case, stored in (("v3 pack", "≥ 6 × faster, not larger", v3, v3_bytes()), ("v1 pack of what came as v1", slower, v1, v1_bytes()),
                                      ("v1 pack of what was made here", slower, anew, anew_bytes())):
        row(f"{name}, {what}", reach, f"{seconds(case):.2f} s, {stored:,} bytes",
            f"{speed(seconds(peer), seconds(case))}, {stored / max(1, peer_bytes()):.3f} × the bytes; {speed(seconds(steps), seconds(case))} as its steps{beside(itself, case, stored)}",
            elsewhere(size, f"{time_there} s, {bytes_there:,} bytes: {speed(time_there, seconds(case))}"))
    (v3, v3_bytes, _), (v1, v1_bytes, _), (peer, _, _), (steps, _, _), *itself = unpacked
    for name, reach, case, stored in (("v3", "≥ 4 × faster, holes stay holes", v3, v3_bytes()), ("v1", "≥ 2 × faster, sparse", v1, v1_bytes())):
        row(f"{name} unpack, {what}, durable", reach, f"{seconds(case):.2f} s, {stored:,} bytes allocated",
            f"{speed(seconds(peer), seconds(case))}; {speed(seconds(steps), seconds(case))} as its steps{beside(itself, case, stored)}",
            elsewhere(size, f"{unpack_there} s: {speed(unpack_there, seconds(case))}"))


def beside(itself, case, stored):
    """What is said of the tool that defined the first layout, where it ran."""
    return "".join(f"; **{speed(seconds(tool), seconds(case))}** as that tool itself, {stored / max(1, size()):.3f} × its bytes" for tool, size, _ in itself)


def remove(path):
    if os.path.exists(path):
        os.remove(path)


def chain(pool):
    path = folder(pool, "chain")
    tags = make_chain(pool, path)
    time_there, bytes_there, unpack_there = ELSEWHERE["chain"]
    there = elsewhere("chain", f"{time_there} s, {bytes_there:,} bytes")
    packed = []
    for layout in ("v3", "v2"):
        out = f"{path}/{layout}.pack"
        case = Case(f"`tine pack`, {layout}", command(*pool.words("pack", "--tag", tags[-1], "--format", layout, "-o", out)),
                    before=lambda out=out: remove(out))
        packed.append((case, lambda out=out: length(out), there if layout == "v2" else ""))
    out = f"{path}/peer.pack"
    packed.append((Case(PEER, shell(tar_zstd(path, out, *tags))), lambda: length(out), ""))
    changed = mebibytes(SMALL[0]) / 40
    table(f"pack of a chain of {len(tags)}, each {mebibytes(SMALL[0])} MiB with {changed:.1f} MiB unlike the one before, durable", packed, rounds(5))
    delete(pool, *tags)()
    unpacked = unpack_chain(pool, path, tags)
    (v3, v3_bytes, _), (v2, v2_bytes, _), (peer, _, _) = packed
    row(f"chain of four in v3, each {mebibytes(SMALL[0])} MiB", "≤ 0.4 × the bytes", f"{seconds(v3):.2f} s, {v3_bytes():,} bytes: {v3_bytes() / max(1, v2_bytes()):.3f} × those of v2",
        speed(seconds(peer), seconds(v3)), there)
    row("the same unpacked, durable", "reported", f"{seconds(unpacked[0][0]):.2f} s", speed(seconds(unpacked[2][0]), seconds(unpacked[0][0])),
        elsewhere("chain", f"{unpack_there} s"))


def unpack_chain(pool, path, tags):
    sides, seen = [], {}
    for layout in ("v3", "v2"):
        def after(layout=layout):
            seen[layout] = allocated(*(memory_of(pool, tag) for tag in tags))
            delete(pool, *tags)()
        case = Case(f"`tine unpack`, {layout}", command(*pool.words("unpack", f"{path}/{layout}.pack")), after=after)
        sides.append((case, lambda layout=layout: seen.get(layout, 0), elsewhere("chain", f"{ELSEWHERE['chain'][2]} s") if layout == "v2" else ""))
    target = f"{path}/unpacked"

    def clear():
        seen["peer"] = allocated(*glob.glob(f"{target}/*/memory.bin"))
        shutil.rmtree(target)
    peer = f"mkdir {target} && zstd -dcq {path}/peer.pack | tar -xf - -C {target} && sync {target}/*/*"
    sides.append((Case(PEER.replace("-S", "-x").replace("-T0 -3", "-d"), shell(peer), after=clear), lambda: seen.get("peer", 0), ""))
    table(f"unpack of a chain of {len(tags)}, durable; bytes are those allocated, shared ones counted for each", sides, rounds(5))
    return sides


def make_chain(pool, path, links=4):
    """Four images, each the one before with pages anew, pages changed by a byte, and pages that have become zero."""
    tags, rest = [f"link-{number}" for number in range(links)], 'files = []\n'
    for number, tag in enumerate(tags):
        os.makedirs(f"{path}/{tag}", exist_ok=True)
        memory = f"{path}/{tag}/memory.bin"
        if number == 0:
            make_memory(mebibytes(SMALL[0]), SMALL[1], memory)
        else:
            sh("cp", "--sparse=always", f"{path}/{tags[number - 1]}/memory.bin", memory)
            shutil.copy(f"{path}/{tags[0]}/vmstate", f"{path}/{tag}/vmstate")
            change(memory, number)
        rest += f'\n[[chain]]\ntag = "{tag}"\n'
        if number:
            parent = tags[number - 1]
            rest += f'parent_tag = "{parent}"\nparent_content_hash = "{sha256(f"{path}/{parent}/memory.bin")}"\n'
        rest += files_of(f"{path}/{tag}", "chain.")
    manifest(path, 2, tags[-1], f'parent_tag = "{tags[-2]}"\n{rest}')
    names = [f"{tag}/{name}" for tag in tags for name in ("vmstate", "memory.bin")]
    # a sparse member would be taken for what differs from its parent
    shell(tar_zstd(path, f"{path}/first.tar.zst", "manifest.toml", *names, sparse=""))()
    pool.tine("unpack", f"{path}/first.tar.zst")
    return tags


def change(path, seed):
    """One page in a hundred anew, as another one is; one in a hundred by a byte; one in two hundred becomes zero."""
    chance, pages = random.Random(seed), length(path) // PAGE
    with open(path, "r+b") as file:
        data = data_pages(file.fileno(), pages)
        for number in range(pages // 40):
            at = chance.choice(data)
            page = bytearray(os.pread(file.fileno(), PAGE, at * PAGE))
            match number % 5:
                case 0 | 1:
                    at = chance.randrange(pages)
                case 2 | 3:
                    page[chance.randrange(PAGE)] ^= 0x55
                case _:
                    page = bytearray(PAGE)
            os.pwrite(file.fileno(), page, at * PAGE)


def data_pages(file, pages):
    """The numbers of the pages that are no holes."""
    found, at = [], 0
    while at < pages * PAGE:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError:      # a hole up to the end
            break
        at = os.lseek(file, start, os.SEEK_HOLE)
        found.extend(range(start // PAGE, at // PAGE))
    return found


def sidecar(pool):
    """Only whole commands write one: the image's memory is 1 MiB, so that the disk is what takes time."""
    path = folder(pool, "sidecar")
    disk, mib = f"{path}/disk", disk_mebibytes()
    make_disk(pool, disk, mib)
    digest = sha256(disk)
    make_memory(1, 50, f"{path}/memory.bin")
    manifest(path, 1, "disk", f'{files_of(path)}\n[rootfs]\ntarget_path = "/disk"\nsha256 = "{digest}"\nsize = {length(disk)}\n')
    shell(tar_zstd(path, f"{path}/first.tar.zst", "manifest.toml", "vmstate", "memory.bin"))()
    name = f"{digest[:16]}.rootfs.zst"
    sh("zstd", "-q", "-3", "-T0", disk, "-o", f"{path}/{name}")
    pool.tine("unpack", f"{path}/first.tar.zst")
    made, peer = folder(pool, "sidecar/made"), f"{path}/peer.zst"

    def clear():
        for file in glob.glob(f"{made}/*"):
            os.remove(file)
    ours = Case("`tine pack`, v1 with a sidecar", command(*pool.words("pack", "--tag", "disk", "-o", f"{made}/pack")), before=clear)
    theirs = Case("`zstd -19`, one thread", shell(f"zstd -q -f -19 -T1 {disk} -o {peer} && sync {peer}"))
    there = ELSEWHERE["sidecar"][0]
    timed([ours], rounds(3))
    timed([theirs], 1, warm=False)
    sides = [(ours, lambda: length(f"{made}/{name}"), elsewhere("sidecar", f"{there} s")), (theirs, lambda: length(peer), "")]
    show(f"sidecar of {mib:,} MiB of a Debian root's ext4, durable", sides)
    row(f"sidecar of {mib:,} MiB", "≤ 1/20 of the time at ≤ 1.15 × the bytes", f"{seconds(ours):.1f} s, {length(f'{made}/{name}'):,} bytes",
        f"1/{seconds(theirs) / seconds(ours):.1f} of the time, {length(f'{made}/{name}') / max(1, length(peer)):.3f} × the bytes", elsewhere("sidecar", f"{there} s: 1/{there / seconds(ours):.1f} of the time"))
    peaks(pool, "sidecar", [("pack with a sidecar", pool.words("pack", "--tag", "disk", "-o", f"{made}/again"))])
    delete(pool, "disk")()


def make_disk(pool, disk, mib):
    tree = f"{pool.dir}/sidecar-root"
    os.makedirs(tree)
    sh("tar", "xf", pool.tar, "-C", tree, "--numeric-owner")
    sh("truncate", "-s", f"{mib}M", disk)
    sh("mkfs.ext4", "-q", "-F", "-d", tree, disk)
    shutil.rmtree(tree)


def peak(pool):
    for size in (SMALL, LARGE):
        tag, path = image(pool, size)
        out, commands = f"{path}/peak.pack", []
        for layout in ("v3", "v1"):
            commands += [(f"pack, {layout}", pool.words("pack", "--tag", tag, "--format", layout, "-o", f"{out}.{layout}")),
                         (f"unpack, {layout}", pool.words("--yes", "unpack", "--force", "--tag", "peak", f"{out}.{layout}"))]
        server = Server(os.path.dirname(out))
        for layout in ("v3", "v1"):
            url = f"{server.url}/{os.path.basename(out)}.{layout}"
            commands.append((f"pull, {layout}", pool.words("--yes", "pull", "--force", "--tag", "peak", url)))
        peaks(pool, title_of(tag, path), commands)
        server.close()
        delete(pool, "peak")()
        for file in glob.glob(f"{out}.*"):
            os.remove(file)


def peaks(pool, title, commands):
    """The most memory that each command has had at once, as the kernel counts it for a process (ru_maxrss)."""
    print(f"\n### peak memory, {title}\n\n| what | peak |\n| --- | ---: |")
    most = 0
    for what, words in commands:
        process = subprocess.Popen(words, **QUIET)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        shown = f"{usage.ru_maxrss / 1024:.1f} MiB" if process.returncode == 0 else f"not run: exits {process.returncode}"
        print(f"| `tine {what}` | {shown} |", flush=True)
        most = max(most, usage.ru_maxrss if process.returncode == 0 else float("inf"))
    row(f"peak memory, {title}", "≤ 96 MiB", f"{most / 1024:.1f} MiB")


class Server:
    """nginx, serving a folder on loopback."""

    def __init__(self, www):
        self.dir = os.path.join(www, "nginx")
        os.makedirs(self.dir)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        temporary = " ".join(f"{kind}_temp_path {self.dir}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(f"{self.dir}/conf", "w") as file:
            file.write(f"daemon off; user root; pid {self.dir}/pid; error_log {self.dir}/error.log; worker_processes 2; events {{}} "
                       f"http {{ access_log off; sendfile on; {temporary} server {{ listen 127.0.0.1:{port}; root {www}; }} }}")
        self.process = subprocess.Popen(["nginx", "-e", f"{self.dir}/error.log", "-c", f"{self.dir}/conf"], **QUIET)
        SERVERS.append(self)
        self.wait(port)

    def wait(self, port):
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("nginx does not answer")

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
        SERVERS.remove(self)


def pull(pool):
    tag, path = image(pool, LARGE)
    www = folder(pool, "www")
    file = f"{www}/image.tine.tar.zst"
    pool.tine("pack", "--tag", tag, "--format", "v3", "-o", file)
    server = Server(www)
    url, size = f"{server.url}/image.tine.tar.zst", length(file)
    ours = Case("`tine pull`", command(*pool.words("pull", url, "--tag", "pulled")), before=drop_caches, after=delete(pool, "pulled"))
    local = Case("`tine unpack` of the local file", command(*pool.words("unpack", file, "--tag", "pulled")), before=drop_caches, after=delete(pool, "pulled"))
    bare = Case("`curl`, four ranges at once, nothing made durable", shell(ranges(url, size, folder(pool, "ranges"))), before=drop_caches)
    table(f"pull of {title_of(tag, path)} over loopback, cold cache", [(case, lambda: size, "") for case in (ours, bare, local)], rounds(9))
    server.close()
    slower = max(seconds(bare), seconds(local))
    row("pull over loopback, cold cache", "≤ 1.2 × the slower of a bare ranged download and `unpack` of a local file",
        f"{seconds(ours):.2f} s, {seconds(ours) / slower:.2f} ×", f"`curl` {seconds(bare):.2f} s, `unpack` {seconds(local):.2f} s")


def ranges(url, size, target, parts=4):
    """Four transfers at once, and a failure of any is one of the command."""
    edges = [size * part // parts for part in range(parts + 1)]
    starts = [f"curl -sS --fail -o {target}/{part} -r {edges[part]}-{edges[part + 1] - 1} {url} & pids+=($!)" for part in range(parts)]
    return "pids=(); " + "\n".join(starts) + '\nfor pid in "${pids[@]}"; do wait $pid || exit 1; done'


def close():
    """Ends what a row that failed has left running; the files go with the pool."""
    for server in SERVERS[:]:
        server.close()


ROWS = {"pack": pack, "chain": chain, "sidecar": sidecar, "pull": pull, "peak": peak}
