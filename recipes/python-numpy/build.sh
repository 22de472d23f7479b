#!/bin/sh
# python with a server that holds numpy ready, and its client.
# builder: box
# parent: python
#
# about: Python with numpy imported; numpy-sum N asks it
# memory: 256MiB
# disk: 4GiB
# warm: numpy-server > /var/log/numpy-server.log 2>&1 < /dev/null &
# warm: until numpy-sum 10 > /dev/null 2>&1; do sleep 0.2; done
# ready: test "$(numpy-sum 10)" = 45
#
# Runs as root in a box cloned from the parent.
set -eu

cat > /usr/local/bin/numpy-server <<'PYTHON'
#!/usr/bin/python3
"""Answers {"sum_below": N} with {"sum": ...}, one line each, on a Unix socket. numpy is imported once, before."""

import json
import os

# with one thread there is no pool of them that every machine carries along
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy
import socketserver

SOCKET = "/run/numpy.sock"


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(json.dumps(self.answer(line)).encode() + b"\n")

    @staticmethod
    def answer(line):
        try:
            count = int(json.loads(line)["sum_below"])
            return {"sum": int(numpy.arange(count, dtype=numpy.int64).sum())}
        except (ValueError, TypeError, KeyError, MemoryError) as error:
            return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    # what a machine that was stopped has left
    if os.path.exists(SOCKET):
        os.unlink(SOCKET)
    with socketserver.UnixStreamServer(SOCKET, Handler) as server:
        server.serve_forever()
PYTHON

cat > /usr/local/bin/numpy-sum <<'PYTHON'
#!/usr/bin/python3 -I
"""usage: numpy-sum N    the sum of all whole numbers below N, computed by numpy-server"""

import json
import socket
import sys

if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
    sys.exit(__doc__)
with socket.socket(socket.AF_UNIX) as link:
    try:
        link.connect("/run/numpy.sock")
    except OSError as error:
        sys.exit(f"error: numpy-server does not answer: {error.strerror}")
    link.sendall(json.dumps({"sum_below": int(sys.argv[1])}).encode() + b"\n")
    answer = json.loads(link.makefile().readline() or '{"error": "numpy-server ended"}')
if "error" in answer:
    sys.exit(f"error: {answer['error']}")
print(answer["sum"])
PYTHON

chmod 755 /usr/local/bin/numpy-server /usr/local/bin/numpy-sum

# What it is for works.
numpy-server &
server=$!
trap 'kill "$server"; rm -f /run/numpy.sock' EXIT
tries=0
until [ "$(numpy-sum 1000 2>/dev/null)" = 499500 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "numpy-server does not answer" >&2; exit 1; }
    sleep 0.1
done
