#!/bin/sh
# A headless Chromium with a page open, which Playwright and any client of the DevTools protocol can drive, and such a client.
# builder: box
# parent: box-base
# about: Headless Chromium with a page open; browser-eval CODE asks it
# memory: 768MiB
# disk: 8GiB
# warm: browser-start
# warm: browser-eval --url file:///usr/share/playwright-browser/page.html 'document.title'
# ready: curl -sf http://127.0.0.1:9222/json/version > /dev/null && test "$(browser-eval '1+1')" = 2
#
# Runs as root in a box cloned from the parent. The browser is Debian's and listens on 127.0.0.1:9222; Playwright, where it is
# installed in a machine, goes on with it by connect_over_cdp("http://127.0.0.1:9222").
set -eu
export DEBIAN_FRONTEND=noninteractive

apt-get update -q
# libatomic1 is for the Node.js that comes with Playwright
apt-get install -q -y --no-install-recommends \
    chromium-headless-shell fonts-liberation libatomic1 python3 python3-websocket
apt-get clean
rm -rf /var/lib/apt/lists/*
useradd --system --create-home --home-dir /var/lib/browser --shell /usr/sbin/nologin browser

mkdir -p /usr/share/playwright-browser
cat > /usr/share/playwright-browser/page.html <<'HTML'
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Ready</title></head>
<body><h1 id="headline">Ready</h1><p>A page that is open before anyone asks.</p>
<script>document.getElementById("headline").dataset.script = "ran";</script></body>
</html>
HTML

cat > /usr/local/bin/browser-start <<'SHELL'
#!/bin/sh
# usage: browser-start    starts Chromium with its DevTools on 127.0.0.1:9222
# The machine is the sandbox: Chromium's own needs namespaces that a container does not give it. It runs as a user of its own,
# asks no service of its maker, and shares memory through files, as /dev/shm may be small. V8 reserves 512 MiB of addresses for
# code, which the kernel refuses to a machine that has less memory.
exec setsid -f runuser -u browser -- env HOME=/var/lib/browser chromium-headless-shell \
    --remote-debugging-address=127.0.0.1 --remote-debugging-port=9222 --remote-allow-origins='*' \
    --user-data-dir=/var/lib/browser/profile --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic \
    --disable-background-networking --disable-component-update --disable-sync --disable-extensions \
    --no-first-run --no-default-browser-check --mute-audio --window-size=1280,720 \
    file:///usr/share/playwright-browser/page.html > /var/log/browser.log 2>&1 < /dev/null
SHELL

cat > /usr/local/bin/browser-eval <<'PYTHON'
#!/usr/bin/python3 -I
"""usage: browser-eval [--url URL] CODE    the value of JavaScript in the open page; what is no text, as JSON"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request

import websocket

DEVTOOLS = "http://127.0.0.1:9222"
PATIENCE = 300


def page():
    """The address of the open page's own channel, once the browser has one."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(DEVTOOLS + "/json/list", timeout=PATIENCE) as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
            if pages:
                return pages[0]["webSocketDebuggerUrl"]
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    sys.exit("error: the browser does not answer; browser-start starts it")


class Page:
    def __init__(self):
        self.link = websocket.create_connection(page(), timeout=PATIENCE, suppress_origin=True)
        self.number = 0
        self.events = []

    def message(self):
        return json.loads(self.link.recv())

    def ask(self, method, **params):
        self.number += 1
        self.link.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (answer := self.message()).get("id") != self.number:
            self.events.append(answer)
        if "error" in answer:
            sys.exit(f"error: {answer['error']['message']}")
        return answer["result"]

    def go(self, url):
        self.ask("Page.enable")
        answer = self.ask("Page.navigate", url=url)
        if answer.get("errorText"):
            sys.exit(f"error: {url}: {answer['errorText']}")
        # a place in the same document is there at once
        while "loaderId" in answer and not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events = [self.message()]

    def evaluate(self, code):
        answer = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            sys.exit(thrown.get("exception", {}).get("description", thrown["text"]))
        return answer["result"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Evaluates JavaScript in the page that the browser has open.")
    parser.add_argument("--url", help="open this first and wait until it has loaded")
    parser.add_argument("code", metavar="CODE", help="what to evaluate; a promise is awaited")
    words = parser.parse_args()
    try:
        browser = Page()
        if words.url:
            browser.go(words.url)
        result = browser.evaluate(words.code)
    except (websocket.WebSocketException, OSError) as error:
        sys.exit(f"error: the page does not answer: {error}")
    value = result.get("value")
    if result["type"] != "undefined":
        print(value if isinstance(value, str) else json.dumps(value))
PYTHON
chmod 755 /usr/local/bin/browser-start /usr/local/bin/browser-eval

# What it is for works.
browser-start
if ! [ "$(browser-eval '1+1')" = 2 ]; then cat /var/log/browser.log >&2; exit 1; fi
curl -sf http://127.0.0.1:9222/json/version
page=file:///usr/share/playwright-browser/page.html
[ "$(browser-eval --url "$page" 'document.title')" = Ready ]
[ "$(browser-eval 'document.getElementById("headline").dataset.script')" = ran ]
[ "$(browser-eval --url 'data:text/html,<title>other</title>' 'Promise.resolve([document.title])')" = '["other"]' ]
if browser-eval 'throw new Error("no")' 2> /dev/null; then exit 1; fi
pkill -u browser
while pgrep -u browser > /dev/null; do sleep 0.1; done
# what it wrote was for this start only
rm -rf /var/lib/browser/profile /var/lib/browser/.cache /var/log/browser.log
