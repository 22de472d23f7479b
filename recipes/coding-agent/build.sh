#!/bin/sh
# What a coding agent reaches for, a workspace, and a language server that waits.
# builder: box
# parent: box-base
# about: git, ripgrep, gcc and Python in a workspace; a language server waits
# memory: 384MiB
# disk: 8GiB
# warm: agent-start
# warm: cd /workspace && git status --short && git log --oneline
# ready: agent-check
#
# Runs as root in a box cloned from the parent.
set -eu
export DEBIAN_FRONTEND=noninteractive

apt-get update -q
apt-get install -q -y --no-install-recommends \
    fd-find file gcc git jq libc6-dev make patch ripgrep unzip xz-utils \
    python3 python3-pip python3-pylsp python3-pytest python3-venv
apt-get clean
rm -rf /var/lib/apt/lists/*
ln -sf fdfind /usr/bin/fd

git config --system init.defaultBranch main
git config --system user.name agent
git config --system user.email agent@localhost
git config --system --add safe.directory '*'

mkdir /workspace
cd /workspace
git init -q
cat > README.md <<'TEXT'
# Workspace
Put your project here, or clone one. `python3 -m pytest` runs the test of the sample; `py-symbols FILE` asks the language
server that waits on 127.0.0.1:2087.
TEXT
cat > hello.py <<'PYTHON'
"""A sample to be replaced."""


def greet(name: str) -> str:
    """The greeting for `name`."""
    return f"Hello, {name}!"
PYTHON
cat > test_hello.py <<'PYTHON'
from hello import greet


def test_greet():
    assert greet("agent") == "Hello, agent!"
PYTHON
printf '%s\n' __pycache__/ .pytest_cache/ .venv/ > .gitignore
git add .
git commit -q -m 'Begin'

cat > /usr/local/bin/agent-start <<'SHELL'
#!/bin/sh
# usage: agent-start    starts the Python language server on 127.0.0.1:2087 and returns when it answers
set -eu
setsid -f pylsp --tcp --host 127.0.0.1 --port 2087 > /var/log/pylsp.log 2>&1 < /dev/null
tries=0
until py-symbols /workspace/hello.py > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { cat /var/log/pylsp.log >&2; exit 1; }
    sleep 0.5
done
SHELL

cat > /usr/local/bin/py-symbols <<'PYTHON'
#!/usr/bin/python3 -I
"""usage: py-symbols FILE    the names that a Python file defines, as the language server on 127.0.0.1:2087 tells them"""

import json
import os
import socket
import sys

SOURCE = "utf-8"


def send(stream, message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    stream.flush()


def receive(stream, number):
    """The result of the request of that number; what comes besides is passed over."""
    while True:
        length = 0
        while (line := stream.readline().strip()):
            key, _, value = line.partition(b":")
            if key.lower() == b"content-length":
                length = int(value)
        if length == 0:
            sys.exit("error: the language server ended")
        message = json.loads(stream.read(length))
        if message.get("id") == number and "method" not in message:
            if "error" in message:
                sys.exit(f"error: {message['error'].get('message')}")
            return message["result"]


def symbols(path):
    folder, uri = os.path.dirname(path), "file://" + path
    with open(path, encoding=SOURCE) as file:
        text = file.read()
    document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
    with socket.create_connection(("127.0.0.1", 2087)) as link, link.makefile("rwb") as stream:
        start = {"processId": None, "rootUri": "file://" + folder, "capabilities": {}}
        send(stream, {"id": 1, "method": "initialize", "params": start})
        receive(stream, 1)
        send(stream, {"method": "initialized", "params": {}})
        send(stream, {"method": "textDocument/didOpen", "params": {"textDocument": document}})
        send(stream, {"id": 2, "method": "textDocument/documentSymbol", "params": {"textDocument": {"uri": uri}}})
        found = receive(stream, 2)
        send(stream, {"id": 3, "method": "shutdown"})
        receive(stream, 3)
        send(stream, {"method": "exit"})
        return [symbol["name"] for symbol in found]


if len(sys.argv) != 2:
    sys.exit(__doc__)
try:
    print("\n".join(symbols(os.path.abspath(sys.argv[1]))))
except OSError as error:
    sys.exit(f"error: {error.strerror}: the language server or the file is not there")
PYTHON

cat > /usr/local/bin/agent-check <<'SHELL'
#!/bin/sh
# usage: agent-check    proves that every tool answers, the language server first
set -eu
cd /workspace
py-symbols hello.py | grep -qx greet
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone -q /workspace "$scratch/clone"
cd "$scratch/clone"
rg -q 'def greet' .
fd -q '^hello\.py$'
[ "$(echo '{"a": [1, 2]}' | jq -c .a)" = '[1,2]' ]
python3 -m pytest -q -p no:cacheprovider > /dev/null
printf '#include <stdio.h>\nint main(void) { return puts("built") < 0; }\n' > a.c
[ "$(make -s a && ./a)" = built ]
SHELL
chmod 755 /usr/local/bin/agent-start /usr/local/bin/py-symbols /usr/local/bin/agent-check

# What it is for works.
agent-start
agent-check
pkill -x pylsp
rm -rf /var/log/pylsp.log /workspace/__pycache__
[ -z "$(git -C /workspace status --short)" ]
