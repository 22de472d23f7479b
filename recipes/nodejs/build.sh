#!/bin/sh
# Node.js with a server that has its modules loaded and evaluates JavaScript, and its client.
# builder: box
# parent: box-base
# about: Node.js with its modules loaded; node-eval CODE asks it
# memory: 256MiB
# disk: 4GiB
# warm: node-server > /var/log/node-server.log 2>&1 < /dev/null &
# warm: until node-eval 'lodash.sum(lodash.range(1000))' > /dev/null 2>&1; do sleep 0.2; done
# ready: test "$(node-eval '1+1')" = 2
#
# Runs as root in a box cloned from the parent.
set -eu
export DEBIAN_FRONTEND=noninteractive

apt-get update -q
apt-get install -q -y --no-install-recommends nodejs node-lodash
apt-get clean
rm -rf /var/lib/apt/lists/*

cat > /usr/local/bin/node-server <<'JAVASCRIPT'
#!/usr/bin/node
// Evaluates JavaScript posted to a Unix socket, one request after the other, all in one global scope, as the REPL does.
// A promise is awaited. The answer is what was written to the console, then the value.
"use strict";

const { Console } = require("node:console");
const fs = require("node:fs");
const http = require("node:http");
const { builtinModules, createRequire } = require("node:module");
const { Writable } = require("node:stream");
const util = require("node:util");
const vm = require("node:vm");

const SOCKET = "/run/node.sock";
const NOT_LOADED = /^_|\/|^(inspector|repl|sys|punycode|trace_events|wasi|test)$/;

globalThis.require = createRequire("/root/");
for (const name of builtinModules.filter((name) => !NOT_LOADED.test(name))) {
    const loaded = require(name);
    if (!(name in globalThis)) globalThis[name] = loaded;
}
globalThis.lodash = globalThis.require("/usr/share/nodejs/lodash");

let said = "";
const paper = new Writable({ write: (chunk, _, done) => { said += chunk; done(); } });
globalThis.console = new Console(paper, paper);

const shown = (value) => (typeof value === "string" ? value : util.inspect(value));

async function answer(code) {
    said = "";
    try {
        const value = await vm.runInThisContext(code, { filename: "code" });
        return [200, said + (value === undefined ? "" : shown(value) + "\n")];
    } catch (error) {
        return [400, said + shown(error?.stack ?? error) + "\n"];
    }
}

let turn = Promise.resolve();
const server = http.createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
        turn = turn.then(async () => {
            const [status, text] = await answer(Buffer.concat(parts).toString());
            response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
            response.end(text);
        });
    });
});

// what evaluated code left running must not take the server with it
process.on("uncaughtException", (error) => process.stderr.write(shown(error) + "\n"));
process.on("unhandledRejection", (error) => process.stderr.write(shown(error) + "\n"));
// what a machine that was stopped has left
fs.rmSync(SOCKET, { force: true });
server.listen(SOCKET);
JAVASCRIPT

cat > /usr/local/bin/node-eval <<'SHELL'
#!/bin/sh
# usage: node-eval CODE, or node-eval < FILE    what node-server says to it; exit code 1 when it throws
set -u
case $# in
    0) code=$(cat) ;;
    1) code=$1 ;;
    *) sed -n 's/^# //p' "$0" >&2; exit 2 ;;
esac
answer=$(printf %s "$code" | curl -s --fail-with-body --unix-socket /run/node.sock --data-binary @- http://node/)
case $? in
    0) [ -z "$answer" ] || printf '%s\n' "$answer" ;;
    22) printf '%s\n' "$answer" >&2; exit 1 ;;
    *) echo "error: node-server does not answer" >&2; exit 1 ;;
esac
SHELL

chmod 755 /usr/local/bin/node-server /usr/local/bin/node-eval

# What it is for works.
node-server &
server=$!
trap 'kill "$server"; rm -f /run/node.sock' EXIT
tries=0
until [ "$(node-eval '1+1' 2>/dev/null)" = 2 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "node-server does not answer" >&2; exit 1; }
    sleep 0.1
done
[ "$(node-eval 'let x = lodash.range(5); console.log("hi"); Promise.resolve(x.length)')" = "hi
5" ]
[ "$(echo 'crypto.createHash("sha1").update(`${x}`).digest("hex").length' | node-eval)" = 40 ]
if node-eval 'throw new Error("no")' 2> /dev/null; then exit 1; fi
node-eval '`node ${process.version}`'
