"""A microVM that QEMU alone restores or boots, driven by nothing but what cannot be done without: the floor of `fork`.

It gets the arguments of a machine that Tine has started, the files of an image, and the agent's greeting. The frames
are those of `crates/tine-agent/src/frame.rs`, the messages those of its `message` folder.
"""
import array, ctypes, fcntl, json, os, re, secrets, socket, struct, subprocess, time, uuid, zlib
from concurrent.futures import ThreadPoolExecutor

QEMU = "/usr/bin/qemu-system-x86_64"
FICLONE = 0x40049409
SNAP_CREATE_V2, READ_ONLY = 0x50009417, 1 << 1
PAGEMAP_SCAN, PAGE_IS_FILE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED = 0xC0606610, 1 << 2, 1 << 3, 1 << 4
TUNSETIFF, TAP, NO_INFORMATION, WITH_HEADER = 0x400454CA, 0x0002, 0x1000, 0x4000
CLONE_NEWNET = 0x40000000
CONTROL, EOF, ORDER = 1, 3, 6
RUNNING = []          # what is to be closed when a row fails


def clone(source, target):
    """A reflink copy, the ioctl alone."""
    with open(source, "rb") as old, open(target, "wb") as new:
        fcntl.ioctl(new, FICLONE, old.fileno())


def nowhere():
    """The calling thread, and it alone, gets a network of its own."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


NOWHERE = ThreadPoolExecutor(1, initializer=nowhere)


def open_tap():
    """A tap that leads nowhere, as Tine gives one to a machine without a network."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"tap%d", TAP | NO_INFORMATION | WITH_HEADER))
    return tap


def frame(content):
    content += struct.pack("<I", zlib.crc32(content))
    out = bytearray()
    for piece in content.split(b"\0"):
        while len(piece) >= 254:
            out += b"\xff" + piece[:254]
            piece = piece[254:]
        out += bytes([len(piece) + 1]) + piece
    return bytes(out) + b"\0"


def content_of(encoded):
    """What is in a frame; empty when it is broken."""
    out, at = bytearray(), 0
    while at < len(encoded):
        code = encoded[at]
        out += encoded[at + 1:at + code]
        at += max(code, 1)
        if code < 255 and at < len(encoded):
            out += b"\0"
    content, checksum = bytes(out[:-4]), bytes(out[-4:])
    return content if checksum == struct.pack("<I", zlib.crc32(content)) else b""


class Agent:
    """The host's side of the agent's link."""

    def __init__(self, link):
        self.link, self.buffer, self.channel = link, b"", 0
        self.hello = {"nonce": secrets.randbits(63), "protocol": 1}

    def tell(self, control):
        self.link.sendall(frame(bytes([CONTROL]) + json.dumps(control).encode()))

    def until(self, wanted, again=lambda: None):
        """Reads on to the message that has this name; calls `again` after every second of silence."""
        while True:
            while b"\0" in self.buffer:
                encoded, self.buffer = self.buffer.split(b"\0", 1)
                content = content_of(encoded)
                if content[:1] == bytes([CONTROL]):
                    message = json.loads(content[1:])
                    name = message if isinstance(message, str) else next(iter(message))
                    if name in ("refused", "failed", "boot"):
                        raise RuntimeError(str(message))
                    if name == wanted:
                        return
            try:
                received = self.link.recv(65536)
            except TimeoutError:
                again()
                continue
            if not received:
                raise RuntimeError("QEMU has ended")
            self.buffer += received

    def greet(self):
        """Begins a session and tells the guest who it is."""
        self.link.sendall(b"\0")
        self.tell({"hello": self.hello})
        self.tell({"identity": {
            "wall_clock_ns": time.time_ns(), "entropy": secrets.token_hex(64), "machine_id": secrets.token_hex(16),
            "hostname": "bare", "hosts": "127.0.0.1 localhost bare\n", "resolv_conf": "", "network": None}})

    def settle(self):
        """Until its programs run."""
        self.until("hello_ack", self.greet)
        self.until("identity_set")
        self.tell("thaw")
        self.until("thawed")

    def execute(self, *argv):
        """Runs a program whose streams are piped, as `tine exec` does."""
        self.channel += 1
        order = {"exec": {"request": {"argv": list(argv)}, "env": [], "streams": ["piped"] * 3}}
        lead = struct.pack("<BIB", ORDER, self.channel, 1)
        end = struct.pack("<BIB", EOF, self.channel, 0)
        self.link.sendall(frame(lead + json.dumps(order).encode()) + frame(end))
        self.until("exited")


class Machine:
    """A QEMU with the arguments of one of Tine's, and the moments at which it got somewhere, in milliseconds."""

    def __init__(self, arguments, memory, disk, source, state=None):
        """`disk` is made: a copy of `source`. `memory` is mapped privately, and `state` is loaded where one is given."""
        self.clocks, self.began = {}, time.perf_counter()
        clone(source, disk)
        files = [os.open(disk, os.O_RDWR), *([os.open(state, os.O_RDONLY)] if state else [])]
        tap = NOWHERE.submit(open_tap).result() if any(word.startswith("tap,") for word in arguments) else None
        files += [tap] if tap is not None else []
        pairs = [socket.socketpair() for _ in range(3)]
        theirs = [pair[1].fileno() for pair in pairs]
        numbers = dict(qmp=theirs[0], agent=theirs[1], console=theirs[2], disk=files[0], tap=tap)
        words = [QEMU, *(wired(word, memory, numbers) for word in arguments)]
        self.process = subprocess.Popen(words, pass_fds=[*theirs, *files], env={}, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.qmp_socket, link, self.console = (pair[0] for pair in pairs)
        for pair in pairs:
            pair[1].close()
        link.settimeout(1)
        self.qmp, self.agent, self.completed = self.qmp_socket.makefile("rb"), Agent(link), False
        self.disk = files[0]
        RUNNING.append(self)
        self.execute("qmp_capabilities")
        self.mark("process started")
        if state:
            self.load(files[1])
        for file in files[1:]:
            os.close(file)

    def mark(self, what):
        self.clocks[what] = 1e3 * (time.perf_counter() - self.began)

    def send(self, command, **arguments):
        self.qmp_socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    def answer(self):
        while True:
            line = self.line()
            if "error" in line:
                raise RuntimeError(str(line["error"]))
            if "return" in line:
                return

    def execute(self, command, **arguments):
        self.send(command, **arguments)
        self.answer()

    def line(self):
        line = self.qmp.readline()
        if not line:
            raise RuntimeError(f"QEMU has ended: {self.process.stderr.read().decode(errors='replace')[-300:]}")
        line = json.loads(line)
        if line.get("event") == "MIGRATION":
            if line["data"]["status"] == "failed":
                raise RuntimeError("the state could not be loaded")
            self.completed |= line["data"]["status"] == "completed"
        return line

    def load(self, state):
        self.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.execute("migrate-set-parameters", **{"announce-rounds": 0})
        self.execute("migrate-incoming", uri=f"fd:{state}")
        while not self.completed:
            self.line()
        self.mark("state loaded")

    def resume(self):
        """Until the agent has acknowledged its identity."""
        self.execute("cont")
        self.mark("resumed")
        self.agent.greet()
        self.agent.settle()
        self.mark("agent acknowledged")

    def first_exec(self):
        self.agent.execute("true")
        self.mark("first exec answered")

    def mapping(self):
        return guest_memory(self.process.pid)

    def save(self, folder):
        """A live snapshot with nothing but its steps; gives the milliseconds the machine stood still. What it copied is
        dropped: it could be written when the machine runs again."""
        os.fsync(self.disk)
        state = f"{folder}/vmstate"
        root, target = os.open(f"{folder}/root", os.O_RDONLY), os.open(folder, os.O_RDONLY)
        start, end, _, _ = self.mapping()
        pagemap, memory = (open(f"/proc/{self.process.pid}/{name}", "rb", 0) for name in ("pagemap", "mem"))
        file = os.open(state, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self.add_descriptor(file)
        began = time.perf_counter()
        self.execute("stop")
        self.send("xen-save-devices-state", filename="/dev/fdset/2", live=False)
        snapshot(root, target, "saved")
        pieces = [os.pread(memory.fileno(), size, at) for at, size in own_pages(pagemap, start, end)]
        self.answer()
        self.execute("cont")
        pause = 1e3 * (time.perf_counter() - began)
        self.execute("remove-fd", **{"fdset-id": 2})
        for number in (root, target, file):
            os.close(number)
        pagemap.close(), memory.close()
        return pause, sum(map(len, pieces))

    def add_descriptor(self, file):
        command = json.dumps({"execute": "add-fd", "arguments": {"fdset-id": 2}}).encode() + b"\n"
        socket.send_fds(self.qmp_socket, [command], [file])
        self.answer()

    def close(self):
        RUNNING.remove(self)
        self.process.kill()
        self.process.wait()
        for one in (self.qmp, self.process.stderr, self.qmp_socket, self.agent.link, self.console):
            one.close()
        os.close(self.disk)


def wired(word, memory, numbers):
    """One of Tine's arguments with this machine's files in it."""
    word = re.sub(r"socket,id=(\w+),fd=\d+", lambda found: f"socket,id={found[1]},fd={numbers[found[1]]}", word)
    word = re.sub(r"^fd=\d+,set=1$", f"fd={numbers['disk']},set=1", word)
    word = re.sub(r"^tap,id=net,fd=\d+", f"tap,id=net,fd={numbers['tap']}", word)
    word = re.sub(r",guid=[0-9a-f-]+", f",guid={uuid.uuid4()}", word)
    return re.sub(r"mem-path=[^,]+", f"mem-path={memory}", word)


def snapshot(source, folder, name):
    """A read-only snapshot of a subvolume, the ioctl alone."""
    argument = bytearray(struct.pack("<qQQ4Q4040s", source, 0, READ_ONLY, 0, 0, 0, 0, name.encode()))
    fcntl.ioctl(folder, SNAP_CREATE_V2, argument)


def own_pages(pagemap, start, end):
    """Address and size of every run of pages that a private mapping does not share with its file."""
    found = []
    while start < end:
        regions = array.array("Q", bytes(24 * 4096))
        argument = bytearray(struct.pack("<12Q", 96, 0, start, end, 0, regions.buffer_info()[0], 4096, 0, PAGE_IS_FILE,
                                         PAGE_IS_FILE, PAGE_IS_PRESENT | PAGE_IS_SWAPPED, PAGE_IS_FILE))
        count = fcntl.ioctl(pagemap, PAGEMAP_SCAN, argument)
        found += [(regions[n], regions[n + 1] - regions[n]) for n in range(0, 3 * count, 3)]
        start = struct.unpack_from("<Q", argument, 32)[0]
    return found


def guest_memory(pid):
    """Where a machine's memory is mapped: start, end, bytes that are its own alone, and the proportional bytes."""
    found = None
    with open(f"/proc/{pid}/smaps") as lines:
        for line in lines:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (....) \S+ \S+ \d+\s+(\S*)", line)
            if head:
                inside = head[3].endswith("p") and head[4].endswith("/memory.bin")
                if inside:
                    start, end = int(head[1], 16), int(head[2], 16)
                    found = [found[0] if found else start, end, *(found[2:] if found else (0, 0))]
            elif found and inside and line.startswith(("Anonymous:", "Pss:")):
                found[2 if line[0] == "A" else 3] += 1024 * int(line.split()[1])
    if not found:
        raise RuntimeError(f"process {pid} maps no memory.bin")
    return found


def arguments_of(pid):
    """The arguments with which Tine has started a machine."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return [word.decode() for word in file.read().split(b"\0")[1:-1]]
