#!/bin/sh
# python with a Jupyter kernel that has numpy and pandas imported, and a client of one command.
# builder: box
# parent: python
# about: A Jupyter kernel with numpy and pandas imported; jupyter-run CODE asks it
# memory: 384MiB
# disk: 4GiB
# warm: jupyter-start
# warm: jupyter-run 'pd.DataFrame({"a": [1, 1, 2], "b": np.arange(3.0)}).groupby("a").mean()'
# ready: test "$(jupyter-run 'int(np.arange(10).sum())')" = 45
#
# Runs as root in a box cloned from the parent.
set -eu
export DEBIAN_FRONTEND=noninteractive

apt-get update -q
apt-get install -q -y --no-install-recommends python3-ipykernel python3-jupyter-client python3-pandas
apt-get clean
rm -rf /var/lib/apt/lists/*

mkdir -p ~root/.ipython/profile_default/startup
cat > ~root/.ipython/profile_default/startup/00-imports.py <<'PYTHON'
import numpy as np
import pandas as pd
PYTHON

cat > /usr/local/bin/jupyter-start <<'SHELL'
#!/bin/sh
# usage: jupyter-start    starts the kernel, its channels Unix sockets in /run/jupyter, and what jupyter-run asks
set -eu
mkdir -p -m 700 /run/jupyter
rm -f /run/jupyter/*
cd /root
# with one thread there is no pool of them that every machine carries along
export OPENBLAS_NUM_THREADS=1
setsid -f python3 -Xfrozen_modules=off -m ipykernel_launcher -f /run/jupyter/kernel.json \
    --IPKernelApp.transport=ipc --IPKernelApp.ip=/run/jupyter/channel --HistoryManager.enabled=False \
    --InteractiveShell.colors=NoColor > /var/log/jupyter-kernel.log 2>&1 < /dev/null
setsid -f jupyter-bridge > /var/log/jupyter-bridge.log 2>&1 < /dev/null
tries=0
until [ -S /run/jupyter/run.sock ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { cat /var/log/jupyter-*.log >&2; exit 1; }
    sleep 0.5
done
SHELL

cat > /usr/local/bin/jupyter-bridge <<'PYTHON'
#!/usr/bin/python3 -I
"""Runs what is posted to a Unix socket in the kernel, one cell after the other, and answers with what the cell said.

It is there because a client's imports take longer than most cells."""

import http.server
import os
import queue
import socketserver
import time

from jupyter_client.blocking import BlockingKernelClient

CONNECTION = "/run/jupyter/kernel.json"
SOCKET = "/run/jupyter/run.sock"


def connect():
    """A client that hears what the kernel says: its subscription takes effect some time after it is made."""
    while not (os.path.exists(CONNECTION) and os.path.getsize(CONNECTION)):
        time.sleep(0.1)
    client = BlockingKernelClient(connection_file=CONNECTION)
    client.load_connection_file()
    client.start_channels()
    while True:
        client.kernel_info()
        try:
            client.get_iopub_msg(timeout=0.5)
            return client
        except queue.Empty:
            pass


def text(message):
    """What a message of the kernel says to a reader of plain text."""
    content = message["content"]
    match message["header"]["msg_type"]:
        case "stream":
            return content["text"]
        case "display_data" | "execute_result":
            return content["data"].get("text/plain", "") + "\n"
        case "error":
            return "\n".join(content["traceback"]) + "\n"
    return ""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        code = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        said = []
        reply = self.server.client.execute_interactive(
            code, allow_stdin=False, output_hook=lambda message: said.append(text(message))
        )
        self.send_response(200 if reply["content"]["status"] == "ok" else 400)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write("".join(said).encode())

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    kernel = connect()
    with socketserver.UnixStreamServer(SOCKET, Handler) as server:
        server.client = kernel
        server.serve_forever()
PYTHON

cat > /usr/local/bin/jupyter-run <<'SHELL'
#!/bin/sh
# usage: jupyter-run CODE, or jupyter-run < FILE    what the cell says; exit code 1 when it raises
set -u
case $# in
    0) code=$(cat) ;;
    1) code=$1 ;;
    *) sed -n 's/^# //p' "$0" >&2; exit 2 ;;
esac
answer=$(printf %s "$code" | curl -s --fail-with-body --unix-socket /run/jupyter/run.sock --data-binary @- http://jupyter/)
case $? in
    0) [ -z "$answer" ] || printf '%s\n' "$answer" ;;
    22) printf '%s\n' "$answer" >&2; exit 1 ;;
    *) echo "error: the kernel does not answer; jupyter-start starts it" >&2; exit 1 ;;
esac
SHELL
chmod 755 /usr/local/bin/jupyter-start /usr/local/bin/jupyter-bridge /usr/local/bin/jupyter-run

# What it is for works.
jupyter-start
[ "$(jupyter-run 'x = int(np.arange(10).sum()); print(pd.Series([x]).max())')" = 45 ]
[ "$(echo 'x + 1' | jupyter-run)" = 46 ]
if why=$(jupyter-run '1 / 0' 2>&1); then exit 1; fi
echo "$why" | grep -q '^ZeroDivisionError: division by zero$'
jupyter-run 'print("numpy", np.__version__, "pandas", pd.__version__)'
pkill -x jupyter-bridge
pkill -x python3
rm -f /var/log/jupyter-*.log
