#!/bin/sh
# box-base with Python 3, pip and numpy from the distribution.
# builder: box
# parent: box-base
#
# Runs as root in a box cloned from the parent.
set -eu
export DEBIAN_FRONTEND=noninteractive

apt-get update -q
apt-get install -q -y --no-install-recommends python3 python3-pip python3-venv python3-numpy
apt-get clean
rm -rf /var/lib/apt/lists/*

python3 -c 'import numpy; print("numpy", numpy.__version__)'
