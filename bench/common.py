"""What every row of bench/run works with: a pool of its own, and things timed in turns."""
import math, os, shutil, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(HERE)
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(TOP, "target"))
TINE = os.path.join(TARGET, "release/tine")
FLOOR = os.path.join(TARGET, "release/examples/floor")
QUIET = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sh(*words, **more):
    done = subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


class Pool:
    """A pool on a loop file of its own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="tine-bench-", dir="/var/tmp")
        self.root = os.path.join(self.dir, "pool")

    def fill(self):
        self.tine("init", "--size", "30GiB")
        self.tar = root_tar(self.dir)
        self.tine("base", "import", "box-base", "--file", self.tar)

    def words(self, *words):
        return [TINE, "--root", self.root, *map(str, words)]

    def tine(self, *words):
        return sh(*self.words(*words))

    def box_root(self, box):
        return f"{self.root}/boxes/default/{box}/root"

    def close(self):
        subprocess.run(self.words("--yes", "detach"), **QUIET)
        shutil.rmtree(self.dir, ignore_errors=True)


def root_tar(folder):
    given = os.environ.get("TINE_BENCH_ROOT_TAR")
    if given:
        return given
    out = os.path.join(folder, "box-base.tar")
    sh("sh", os.path.join(TOP, "recipes/box-base/build.sh"), env={**os.environ, "TINE_ROOT_TAR": out})
    return out


class Case:
    """Something to time: `before` and `after` are not part of the figure."""

    def __init__(self, name, run, before=None, after=None):
        self.name, self.run, self.before, self.after = name, run, before, after
        self.times, self.reason = [], None

    def once(self):
        if self.reason:
            return
        try:
            if self.before:
                self.before()
            began = time.perf_counter()
            self.run()
            self.times.append(1e3 * (time.perf_counter() - began))
            if self.after:
                self.after()
        except Exception as error:  # a peer that is not here, or does not run here
            self.reason = str(error).splitlines()[0][:160]


def command(*words, env=None):
    def run():
        done = subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, env=env)
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]} exits {done.returncode}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return run


def timed(cases, runs, warm=True):
    """Runs the cases in turns."""
    for case in cases if warm else []:
        case.once()          # a first one warms up and does not count
        case.times.clear()
    for _ in range(runs):
        for case in cases:
            case.once()


def table(title, cases, runs):
    timed(cases, runs)
    print(f"\n### {title}\n\n| what | median | min | max | runs |\n| --- | ---: | ---: | ---: | ---: |")
    for case in cases:
        if case.reason or not case.times:
            print(f"| {case.name} | not run: {case.reason} | | | |")
            continue
        times = case.times
        print(f"| {case.name} | {statistics.median(times):.1f} ms | {min(times):.1f} | {max(times):.1f} | {len(times)} |")
    sys.stdout.flush()


def rounds(full):
    return min(full, int(os.environ.get("TINE_BENCH_ROUNDS", full)))


def children(full):
    return min(full, int(os.environ.get("TINE_BENCH_CHILDREN", full)))


def quantile(values, part):
    """The smallest value that is not below this part of them."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]
