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

mkdir -p /root/.ipython/profile_default/startup
cat > /root/.ipython/profile_default/startup/00-imports.py <<'PYTHON'
import numpy as np
import pandas as pd
PYTHON

cat > /usr/local/bin/jupyter-start <<'SHELL'
#!/bin/sh
# usage: jupyter-start    starts the kernel; its channels are Unix sockets in /run/jupyter
set -eu
mkdir -p -m 700 /run/jupyter
rm -f /run/jupyter/*
cd /root
# with one thread there is no pool of them that every machine carries along
export OPENBLAS_NUM_THREADS=1
exec setsid -f python3 -Xfrozen_modules=off -m ipykernel_launcher -f /run/jupyter/kernel.json \
    --IPKernelApp.transport=ipc --IPKernelApp.ip=/run/jupyter/channel --HistoryManager.enabled=False \
    > /var/log/jupyter-kernel.log 2>&1 < /dev/null
SHELL

cat > /usr/local/bin/jupyter-run <<'PYTHON'
#!/usr/bin/python3 -I
"""usage: jupyter-run CODE, or jupyter-run < FILE    runs it in the kernel that jupyter-start started"""

import os
import queue
import sys
import time

CONNECTION = "/run/jupyter/kernel.json"
PATIENCE = 300


def connect():
    """A client that hears what the kernel says: its subscription takes effect some time after it is made."""
    end = time.monotonic() + PATIENCE
    while not os.path.exists(CONNECTION):
        if time.monotonic() > end:
            sys.exit("error: there is no kernel; jupyter-start starts one")
        time.sleep(0.1)
    from jupyter_client.blocking import BlockingKernelClient

    client = BlockingKernelClient(connection_file=CONNECTION)
    client.load_connection_file()
    client.start_channels()
    while time.monotonic() < end:
        client.kernel_info()
        try:
            client.get_iopub_msg(timeout=0.5)
            return client
        except queue.Empty:
            pass
    sys.exit("error: the kernel does not answer")


if len(sys.argv) > 2:
    sys.exit(__doc__)
code = sys.argv[1] if len(sys.argv) == 2 else sys.stdin.read()
client = connect()
reply = client.execute_interactive(code, allow_stdin=False)
client.stop_channels()
sys.exit(reply["content"]["status"] != "ok")
PYTHON
chmod 755 /usr/local/bin/jupyter-start /usr/local/bin/jupyter-run

# What it is for works.
jupyter-start
[ "$(jupyter-run 'x = int(np.arange(10).sum()); print(pd.Series([x]).max())')" = 45 ]
[ "$(echo 'x + 1' | jupyter-run)" = 46 ]
if jupyter-run '1 / 0' > /dev/null 2>&1; then exit 1; fi
jupyter-run 'print("numpy", np.__version__, "pandas", pd.__version__)'
pkill -x python3
rm -f /var/log/jupyter-kernel.log
