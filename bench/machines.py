"""The rows of bench/run that are about microVMs, each beside its floor: QEMU alone, as bare.py drives it.

Prepared beforehand, and in no figure: the pool, the guest kernel, the base's disk and an image of 256 MiB, whose pages
the host has in its cache; for the floor its arguments, taken from a child that Tine has forked, and one copy of the
image's memory that all of its children map. Within every figure: what is made for each child alone, its disk first.
"""
import glob, json, os, shutil, statistics, time
from concurrent.futures import ThreadPoolExecutor

import bare
from common import Case, children, command, quantile, rounds, sh, table

MIB = 1 << 20
CLOCKS = ["process started", "state loaded", "resumed", "agent acknowledged", "first exec answered"]
WORKERS = max(2, os.cpu_count() or 2)          # as many as `tine fork` has
IMAGE = "bench"
SUMMARY, PREPARED, KERNELS, SCRATCH = [], set(), set(), []


def row(what, reach, measured, floor="", ratio=""):
    SUMMARY.append(f"| {what} | {reach} | {measured} | {floor} | {ratio} |")


def summary():
    if SUMMARY:
        print("\n### MicroVMs: what was to be reached\n\n| what | reach | measured | floor | ratio |")
        print("| --- | --- | --- | --- | ---: |", *SUMMARY, sep="\n")


def heading(title, *columns):
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n| --- |{' ---: |' * (len(columns) - 1)}", flush=True)


def ratio(ours, theirs, part=0.5):
    return f"{quantile(ours, part) / quantile(theirs, part):.2f} ×"


# what is prepared

def kernel(pool):
    """Gives the pool a guest kernel, once."""
    if pool.root in KERNELS:
        return
    folder = os.environ.get("TINE_BENCH_KERNEL")
    if folder:
        modules = glob.glob(f"{folder}/lib/modules/*")[0]
        pool.tine("kernel", "import", "--vmlinuz", f"{folder}/vmlinuz", "--modules", modules)
    else:
        pool.tine("kernel", "install")
    KERNELS.add(pool.root)


def prepared(pool):
    """A pool with a guest kernel, a child to take the arguments from, and the image."""
    if pool.root in PREPARED:
        return
    kernel(pool)
    pool.tine("image", "bake", IMAGE, "--base", "box-base", "--memory", "256MiB", "--net", "none")
    PREPARED.add(pool.root)


def fork(pool, tag=IMAGE, count=1):
    """Forks without a network, as the bare machines are, and gives the report."""
    return json.loads(pool.tine("--json", "fork", tag, "-n", count, "--net", "none"))


def name_of(ready):
    return ready["box"]["name"]


def delete(pool, *boxes):
    for box in boxes:
        pool.tine("--yes", "delete", box)


def qemu_of(pool, box):
    """The process of a running vm box: the QEMU that has its disk open."""
    disk = os.path.realpath(pool.box_root(box)) + "/disk.img"
    for process in glob.glob("/proc/[0-9]*"):
        try:
            with open(f"{process}/cmdline", "rb") as words:
                if words.read(5) == b"qemu\0" and any(os.readlink(fd) == disk for fd in glob.glob(f"{process}/fd/*")):
                    return int(process[6:])
        except OSError:      # it has ended meanwhile
            continue
    raise RuntimeError(f"no QEMU has {disk} open")


def write_memory(pool, box, mib):
    """Has a guest write so much of its memory."""
    pool.tine("exec", box, "--", "sh", "-c", f"yes written | head -c {mib}M >/dev/shm/written")


class Scratch:
    """A subvolume in the pool's file system with what bare machines need: the image's memory, and a disk for each."""

    def __init__(self, pool, tag=IMAGE):
        prepared(pool)
        self.image, self.folder, self.count = f"{pool.root}/images/{tag}", f"{pool.root}/tmp/bare", 0
        os.mkdir(self.folder)
        SCRATCH.append(self.folder)
        sh("btrfs", "subvolume", "create", f"{self.folder}/root")
        bare.clone(f"{self.image}/state/memory.bin", f"{self.folder}/root/memory.bin")
        model = fork(pool, tag)["ready"][0]
        self.arguments = bare.arguments_of(qemu_of(pool, name_of(model)))
        delete(pool, name_of(model))

    def restore(self):
        """A machine that runs and knows who it is."""
        self.count += 1
        root = f"{self.folder}/root"
        machine = bare.Machine(self.arguments, f"{root}/memory.bin", f"{root}/disk-{self.count}.img",
                               f"{self.image}/root/disk.img", f"{self.image}/state/vmstate")
        machine.resume()
        return machine

    def discard_saved(self):
        sh("btrfs", "subvolume", "delete", f"{self.folder}/saved")

    def close(self):
        SCRATCH.remove(self.folder)
        remove(self.folder)


def remove(folder):
    for subvolume in ("saved", "root"):
        if os.path.exists(f"{folder}/{subvolume}"):
            sh("btrfs", "subvolume", "delete", f"{folder}/{subvolume}")
    shutil.rmtree(folder, ignore_errors=True)


def close():
    """Removes what a row that failed has left."""
    for machine in bare.RUNNING[:]:
        machine.close()
    for folder in SCRATCH:
        remove(folder)


# the rows

def forked_once(pool, tag=IMAGE):
    """The clocks of one child in milliseconds, and that of the whole command; the child is gone afterwards."""
    began = time.perf_counter()
    ready = fork(pool, tag)["ready"][0]
    whole = time.perf_counter()
    pool.tine("exec", name_of(ready), "--", "true")
    answered = 1e3 * (time.perf_counter() - began)
    delete(pool, name_of(ready))
    clocks = {what: ready["clocks"][what.replace(" ", "_") + "_us"] / 1e3 for what in CLOCKS[:4]}
    return {**clocks, "first exec answered": answered, "command ended": 1e3 * (whole - began)}


def restored_once(scratch):
    machine = scratch.restore()
    machine.first_exec()
    machine.close()
    return machine.clocks


def fork_one(pool):
    scratch = Scratch(pool)
    ours, floor = [], []
    for number in range(rounds(50) + 1):
        samples = forked_once(pool), restored_once(scratch)
        if number:           # the first one warms up
            ours.append(samples[0])
            floor.append(samples[1])
    scratch.close()
    heading(f"fork 1, {len(ours)} times, in ms", "clock", *(f"{who} {p}" for who in ("Tine", "bare") for p in ("p50", "p90", "p99")), "ratio")
    for clock in [*CLOCKS, "command ended"]:
        sides = [[sample[clock] for sample in side if clock in sample] for side in (ours, floor)]
        cells = [f"{quantile(side, part):.1f}" if side else "" for side in sides for part in (0.5, 0.9, 0.99)]
        print(f"| {clock} | {' | '.join(cells)} | {ratio(*sides) if sides[1] else ''} |")
    acknowledged = [[sample["agent acknowledged"] for sample in side] for side in (ours, floor)]
    row("fork 1, to agent acknowledged", "≤ 1.3 × the bare restore", f"{quantile(acknowledged[0], 0.5):.1f} ms",
        f"{quantile(acknowledged[1], 0.5):.1f} ms", ratio(*acknowledged))


def all_at_work(work, items):
    """Does it for each, as many at a time as `tine fork` does; gives the seconds it took and what came of it."""
    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as workers:
        done = list(workers.map(work, items))
    return time.perf_counter() - began, done


def fork_hundred(pool):
    count = children(100)
    times = {"Tine": ours_hundred(pool, count), "bare": bare_hundred(Scratch(pool), count)}
    heading(f"fork {count} of a 256 MiB image, in s", "what", "made", "all have answered an exec", "together")
    for who, (made, answered) in times.items():
        print(f"| {who} | {made:.2f} | {answered:.2f} | {made + answered:.2f} |")
    ours, floor = (sum(times[who]) for who in ("Tine", "bare"))
    row(f"fork {count}, all having answered an `exec`", "≤ 45 s, ≤ 1.2 × the bare restores", f"{ours:.1f} s", f"{floor:.1f} s", f"{ours / floor:.2f} ×")


def ours_hundred(pool, count):
    prepared(pool)
    began = time.perf_counter()
    boxes = [name_of(ready) for ready in fork(pool, IMAGE, count)["ready"]]
    made = time.perf_counter() - began
    if len(boxes) != count:
        raise RuntimeError(f"{len(boxes)} of {count} were forked")
    answered, _ = all_at_work(lambda box: pool.tine("exec", box, "--", "true"), boxes)
    delete(pool, *boxes)
    return made, answered


def bare_hundred(scratch, count):
    made, machines = all_at_work(lambda _: scratch.restore(), range(count))
    answered, _ = all_at_work(lambda machine: machine.first_exec(), machines)
    for machine in machines:
        machine.close()
    scratch.close()
    return made, answered


def pause(pool):
    scratch = Scratch(pool)
    heading("pause of a live snapshot, in ms", "written", "snapshots", "Tine p50", "Tine p99", "bare p50", "bare p99", "ratio")
    found = {mib: paused(pool, scratch, mib) for mib in (0, 16, 64)}
    for own, ours, floor in found.values():
        cells = [f"{quantile(side, part):.1f}" for side in (ours, floor) for part in (0.5, 0.99)]
        print(f"| {own / MIB:.1f} MiB | {len(ours)} | {' | '.join(cells)} | {ratio(ours, floor)} |")
    scratch.close()
    own, ours, floor = found[0]
    row(f"pause of a live snapshot, {own / MIB:.1f} MiB written", "≤ 10 ms p99", f"{quantile(ours, 0.99):.1f} ms",
        f"{quantile(floor, 0.99):.1f} ms", ratio(ours, floor, 0.99))
    for mib in (16, 64):
        row(f"the same, per MiB beyond that, at {found[mib][0] / MIB:.0f} MiB", "≤ 1 ms", slope(found, mib, 1), slope(found, mib, 2))


def slope(found, mib, side):
    """Milliseconds for each MiB more than the idle child has, at the ninety-ninth part."""
    more = quantile(found[mib][side], 0.99) - quantile(found[0][side], 0.99)
    return f"{more / ((found[mib][0] - found[0][0]) / MIB):.2f} ms"


def paused(pool, scratch, mib, per_child=5):
    """Bytes written, and the pauses of Tine and of the floor, a few of each child."""
    own, ours, floor = [], [], []
    while len(ours) < rounds(50):
        box, machine = name_of(fork(pool)["ready"][0]), scratch.restore()
        if mib:
            write_memory(pool, box, mib)
            machine.agent.execute("sh", "-c", f"yes written | head -c {mib}M >/dev/shm/written")
        for number in range(per_child):
            ours.append(json.loads(pool.tine("--json", "snapshot", "create", box, f"s{number}", "--live"))["pause_us"] / 1e3)
            own.append(bare.guest_memory(qemu_of(pool, box))[2])
            floor.append(machine.save(scratch.folder)[0])
            scratch.discard_saved()
        machine.close()
        delete(pool, box)
    return statistics.median(own), ours, floor


def live_size(pool):
    """The machine is paused, so that what is written does not change between the look at it and the snapshot."""
    prepared(pool)
    heading("disk used by a live snapshot, in MiB", "what", "written pages + state", "used", "ratio", "of the whole file system", "with its metadata")
    for mib in (0, 16, 64):
        box = name_of(fork(pool)["ready"][0])
        if mib:
            write_memory(pool, box, mib)
        pool.tine("pause", box)
        written, before = bare.guest_memory(qemu_of(pool, box))[2], used(pool)
        pool.tine("snapshot", "create", box, "s", "--live")
        after = used(pool)
        state = f"{os.path.dirname(pool.box_root(box))}/snapshots/s/state"
        needed = written + os.path.getsize(f"{state}/vmstate")
        own = exclusive(state)
        print(f"| {mib} MiB written on purpose | {needed / MIB:.2f} | {own / MIB:.2f} | {own / needed:.3f} "
              f"| {(after[0] - before[0]) / MIB:.2f} | {(sum(after) - sum(before)) / MIB:.2f} |")
        delete(pool, box)
    row("disk used by a live snapshot, 64 MiB written", "written pages + state, within 10 %", f"{own / MIB:.2f} MiB", f"{needed / MIB:.2f} MiB", f"{own / needed:.3f} ×")


def used(pool):
    """Bytes of data and of metadata in use in the file system."""
    sh("btrfs", "filesystem", "sync", pool.root)
    lines = sh("btrfs", "filesystem", "df", "--raw", pool.root).splitlines()
    numbers = {line.split(",")[0]: int(line.rpartition("used=")[2]) for line in lines}
    return numbers["Data"], numbers["Metadata"]


def exclusive(folder):
    """Bytes that nothing else has."""
    return int(sh("btrfs", "filesystem", "du", "--summarize", "--raw", folder).splitlines()[-1].split()[1])


def generations(pool):
    prepared(pool)
    parent, tags = IMAGE, []
    for number in range(2, 11):
        box = name_of(fork(pool, parent)["ready"][0])
        write_memory(pool, box, 1)
        parent = f"generation-{number}"
        pool.tine("image", "bake", parent, "--box", box)
        tags.append(parent)
        delete(pool, box)
    found = {IMAGE: [], parent: []}
    for number in range(rounds(30) + 1):
        for tag, samples in found.items():
            sample = forked_once(pool, tag)
            samples.extend([sample] if number else [])
    report_generations(found, parent)
    for tag in tags:
        pool.tine("--yes", "image", "delete", tag)


def report_generations(found, tenth):
    heading(f"fork of the tenth generation, {len(found[tenth])} times, p50 in ms", "clock", "first", "tenth", "ratio")
    for clock in [*CLOCKS, "command ended"]:
        first, last = ([sample[clock] for sample in found[tag]] for tag in (IMAGE, tenth))
        print(f"| {clock} | {quantile(first, 0.5):.1f} | {quantile(last, 0.5):.1f} | {ratio(last, first)} |")
        if clock == "agent acknowledged":
            row("fork of a tenth-generation image", "≤ 1.1 × the first", f"{quantile(last, 0.5):.1f} ms", f"{quantile(first, 0.5):.1f} ms", ratio(last, first))


def memory(pool):
    """Of children that have done nothing for a while, and of as many bare machines."""
    scratch, count = Scratch(pool), children(20)
    boxes = [name_of(ready) for ready in fork(pool, IMAGE, count)["ready"]]
    time.sleep(rounds(20))
    processes = [qemu_of(pool, box) for box in boxes]
    ours = [footprint(process) for process in processes]
    monitors = [proportional(parent_of(process)) for process in processes]
    delete(pool, *boxes)
    machines = all_at_work(lambda _: scratch.restore(), range(count))[1]
    time.sleep(rounds(20))
    floor = [footprint(machine.process.pid) for machine in machines]
    for machine in machines:
        machine.close()
    scratch.close()
    heading(f"memory of an idle child, mean of {count}, in MiB", "what", "Tine", "bare")
    for index, what in enumerate(("guest memory of its own", "PSS of QEMU, guest memory included")):
        print(f"| {what} | {mean(ours, index):.2f} | {mean(floor, index):.2f} |")
    print(f"| PSS of the monitor | {statistics.mean(monitors) / MIB:.2f} | |")
    row("guest memory of its own, per idle child", "≤ 3 MiB", f"{mean(ours, 0):.2f} MiB", f"{mean(floor, 0):.2f} MiB", f"{mean(ours, 0) / mean(floor, 0):.2f} ×")
    row(f"PSS per child, {count} children: QEMU and monitor", "reported", f"{mean(ours, 1):.1f} + {statistics.mean(monitors) / MIB:.1f} MiB",
        f"{mean(floor, 1):.1f} MiB", f"{mean(ours, 1) / mean(floor, 1):.2f} ×")


def mean(samples, index):
    return statistics.mean(sample[index] for sample in samples) / MIB


def footprint(process):
    return bare.guest_memory(process)[2], proportional(process)


def proportional(process):
    with open(f"/proc/{process}/smaps_rollup") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def parent_of(process):
    with open(f"/proc/{process}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def cold_boot(pool):
    prepared(pool)
    create = command(*pool.words("create", "cold", "--vm", "--memory", "256MiB", "--net", "none"))
    create()
    folder = f"{pool.root}/tmp/bare"
    boot = boot_of(pool, folder)
    delete(pool, "cold")
    ours = Case("`tine create --vm`, disk made before", create, after=command(*pool.words("--yes", "delete", "cold")))
    floor = Case("floor: bare QEMU, the same kernel and initramfs", boot)
    table("cold boot to agent ready", [ours, floor], rounds(10))
    shutil.rmtree(folder)
    SCRATCH.remove(folder)
    row("vm box, cold boot to agent ready", "≤ 4 s", f"{statistics.median(ours.times) / 1e3:.2f} s", f"{statistics.median(floor.times) / 1e3:.2f} s", ratio(ours.times, floor.times))


def boot_of(pool, folder):
    """What boots a bare machine with the kernel, the initramfs and the disk of the box."""
    os.mkdir(folder)
    SCRATCH.append(folder)
    process = qemu_of(pool, "cold")
    words = bare.arguments_of(process)
    for flag in ("-kernel", "-initrd"):
        at = words.index(flag) + 1
        number = words[at].rpartition("/")[2]
        shutil.copyfile(f"/proc/{process}/fd/{number}", f"{folder}/{flag[1:]}")
        words[at] = f"{folder}/{flag[1:]}"
    bare.clone(f"{pool.box_root('cold')}/disk.img", f"{folder}/disk.img")

    def boot():
        with open(f"{folder}/memory.bin", "wb") as file:
            file.truncate(256 * MIB)
        machine = bare.Machine(words, f"{folder}/memory.bin", f"{folder}/booted.img", f"{folder}/disk.img")
        machine.resume()
        machine.close()
    return boot


ROWS = {"fork": fork_one, "fork100": fork_hundred, "pause": pause, "live-size": live_size, "generations": generations,
        "cold-boot": cold_boot}
