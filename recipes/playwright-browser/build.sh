#!/bin/sh
# A headless Chromium with a page open, driven by Playwright, which waits for Python or JavaScript to run in it.
# builder: box
# parent: box-base
# about: Playwright and headless Chromium with a page open; playwright-run CODE asks it
# memory: 768MiB
# disk: 8GiB
# warm: browser-start
# warm: browser-eval --url file:///usr/share/playwright-browser/page.html 'document.title'
# ready: browser-check
#
# Runs as root in a box cloned from the parent. The browser is Debian's; its DevTools listen on 127.0.0.1:9222.
set -eu
export DEBIAN_FRONTEND=noninteractive

apt-get update -q
# libatomic1 is for the Node.js that comes with Playwright
apt-get install -q -y --no-install-recommends \
    chromium-headless-shell fonts-liberation libatomic1 python3 python3-pip
apt-get clean
rm -rf /var/lib/apt/lists/*
# the package alone: its browsers would be fetched by a command of its own
pip install --quiet --no-cache-dir --no-compile --root-user-action=ignore --break-system-packages \
    playwright==1.65.2 greenlet==3.5.6
useradd --system --create-home --home-dir /var/lib/browser --shell /usr/sbin/nologin browser

mkdir -p /usr/share/playwright-browser
cat > /usr/share/playwright-browser/page.html <<'HTML'
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Ready</title></head>
<body><h1 id="headline">Ready</h1><p>A page that is open before anyone asks.</p>
<button onclick="headline.textContent = 'Pressed'">Press</button>
<script>document.getElementById("headline").dataset.script = "ran";</script></body>
</html>
HTML

cat > /usr/local/bin/browser-start <<'SHELL'
#!/bin/sh
# usage: browser-start    starts Chromium and what drives it, and returns when they answer
set -eu
install -d -o browser -g browser -m 755 /run/playwright
cd /var/lib/browser
setsid -f runuser -u browser -- env HOME=/var/lib/browser playwright-server > /var/log/browser.log 2>&1 < /dev/null
tries=0
until [ "$(browser-eval '1+1' 2> /dev/null)" = 2 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { cat /var/log/browser.log >&2; exit 1; }
    sleep 0.5
done
SHELL

cat > /usr/local/bin/playwright-server <<'PYTHON'
#!/usr/bin/python3 -I
"""Drives Chromium through Playwright, with a page open, and runs what is posted to a Unix socket, one request after the other.

`/python` runs Python, all in one scope that has playwright, browser, context and page, and answers with what was printed and then
the value of a last line that is an expression. `/javascript` evaluates JavaScript in the page; the header `open` names an address
to open first."""

import ast
import contextlib
import http.server
import io
import json
import os
import socketserver
import traceback

from playwright.sync_api import sync_playwright

SOCKET = "/run/playwright/server.sock"
BROWSER = "/usr/bin/chromium-headless-shell"
PROFILE = "/var/lib/browser/profile"
PAGE = "file:///usr/share/playwright-browser/page.html"
# an emulated machine needs longer than the usual half minute
PATIENCE_MS = 300_000
# The machine is the sandbox: Chromium's own needs namespaces that a container does not give it. It asks no service of its maker, and
# shares memory through files, as /dev/shm may be small.
FLAGS = [
    "--remote-debugging-address=127.0.0.1",
    "--remote-debugging-port=9222",
    "--remote-allow-origins=*",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def shown(value):
    return value if isinstance(value, str) else repr(value)


class Driver:
    def __init__(self, playwright):
        self.context = playwright.chromium.launch_persistent_context(
            PROFILE, executable_path=BROWSER, chromium_sandbox=False, args=FLAGS, timeout=PATIENCE_MS
        )
        self.context.set_default_timeout(PATIENCE_MS)
        page = self.context.pages[0]
        page.goto(PAGE)
        browser = self.context.browser
        self.scope = {"playwright": playwright, "browser": browser, "context": self.context, "page": page}

    def python(self, code, _):
        lines = ast.parse(code, "code").body
        last = lines.pop().value if lines and isinstance(lines[-1], ast.Expr) else None
        exec(compile(ast.Module(lines, []), "code", "exec"), self.scope)
        value = eval(compile(ast.Expression(last), "code", "eval"), self.scope) if last else None
        if value is not None:
            print(shown(value))

    def javascript(self, code, address):
        page = self.context.pages[0]
        if address:
            page.goto(address)
        value = page.evaluate(code)
        if value is not None:
            print(value if isinstance(value, str) else json.dumps(value, default=repr))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        driver = self.server.driver
        verb = {"/python": driver.python, "/javascript": driver.javascript}.get(self.path)
        if verb is None:
            return self.send_error(404)
        code = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        address = self.headers.get("open", "").encode("latin-1").decode()
        status, said = 200, io.StringIO()
        with contextlib.redirect_stdout(said):
            try:
                verb(code, address)
            except (Exception, SystemExit) as error:
                status = 400
                print("".join(traceback.format_exception_only(error)).rstrip())
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(said.getvalue().encode())

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    # what a machine that was stopped has left
    for left in (SOCKET, PROFILE + "/SingletonLock", PROFILE + "/SingletonSocket", PROFILE + "/SingletonCookie"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(left)
    with sync_playwright() as started:
        driver = Driver(started)
        with socketserver.UnixStreamServer(SOCKET, Handler) as server:
            server.driver = driver
            os.chmod(SOCKET, 0o666)
            server.serve_forever()
PYTHON

cat > /usr/local/bin/playwright-run <<'SHELL'
#!/bin/sh
# usage: playwright-run CODE, or playwright-run < FILE    what Python code says that has the open page as `page`; exit code 1 when it raises
set -u
case $# in
    0) code=$(cat) ;;
    1) code=$1 ;;
    *) sed -n 's/^# //p' "$0" >&2; exit 2 ;;
esac
answer=$(printf %s "$code" | curl -s --fail-with-body --unix-socket /run/playwright/server.sock \
    --data-binary @- http://playwright/python)
case $? in
    0) [ -z "$answer" ] || printf '%s\n' "$answer" ;;
    22) printf '%s\n' "$answer" >&2; exit 1 ;;
    *) echo "error: the browser does not answer; browser-start starts it" >&2; exit 1 ;;
esac
SHELL

cat > /usr/local/bin/browser-eval <<'SHELL'
#!/bin/sh
# usage: browser-eval [--url URL] CODE    the value of JavaScript in the open page; what is no text, as JSON; exit code 1 when it throws
set -u
url=
case ${1-} in
    --url) url=${2-}; [ $# -lt 2 ] || shift 2 ;;
esac
[ $# = 1 ] && [ "$1" != --url ] && [ "$1" != --help ] || { sed -n 's/^# //p' "$0" >&2; exit 2; }
answer=$(printf %s "$1" | curl -s --fail-with-body --unix-socket /run/playwright/server.sock ${url:+-H "open: $url"} \
    --data-binary @- http://playwright/javascript)
case $? in
    0) [ -z "$answer" ] || printf '%s\n' "$answer" ;;
    22) printf '%s\n' "$answer" >&2; exit 1 ;;
    *) echo "error: the browser does not answer; browser-start starts it" >&2; exit 1 ;;
esac
SHELL

cat > /usr/local/bin/browser-check <<'SHELL'
#!/bin/sh
# usage: browser-check    proves that Playwright drives the page, and that DevTools answer
set -eu
curl -sf http://127.0.0.1:9222/json/version > /dev/null
[ "$(playwright-run < /usr/share/playwright-browser/check.py)" = "Ready Pressed" ]
[ "$(browser-eval 'document.getElementById("headline").dataset.script')" = ran ]
SHELL
cat > /usr/share/playwright-browser/check.py <<'PYTHON'
address = "file:///usr/share/playwright-browser/page.html"
page.goto(address)
title = page.title()
page.get_by_role("button", name="Press").click()
headline = page.locator("h1").inner_text()
page.goto(address)
f"{title} {headline}"
PYTHON
chmod 755 /usr/local/bin/browser-start /usr/local/bin/playwright-server /usr/local/bin/playwright-run \
    /usr/local/bin/browser-eval /usr/local/bin/browser-check

# What it is for works.
browser-start
browser-check
curl -sf http://127.0.0.1:9222/json/version
[ "$(browser-eval --url 'data:text/html,<title>other</title>' 'Promise.resolve([document.title])')" = '["other"]' ]
[ "$(playwright-run 'page.title()')" = other ]
if browser-eval 'throw new Error("no")' 2> /dev/null; then exit 1; fi
if why=$(playwright-run '1 / 0' 2>&1); then exit 1; fi
[ "$why" = 'ZeroDivisionError: division by zero' ]
# as a program of its own, with a browser of its own
python3 - <<'PYTHON'
from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium-headless-shell", args=["--disable-dev-shm-usage"])
    page = browser.new_page()
    page.set_content("<h1>own</h1>")
    assert page.locator("h1").inner_text() == "own"
    open_page = playwright.chromium.connect_over_cdp("http://127.0.0.1:9222").contexts[0].pages[0]
    assert open_page.title() == "other"
    browser.close()
PYTHON
pkill -u browser
while pgrep -u browser > /dev/null; do sleep 0.1; done
# what it wrote was for this start only
rm -rf /var/lib/browser/profile /var/lib/browser/.cache /var/log/browser.log /run/playwright /tmp/playwright-*
