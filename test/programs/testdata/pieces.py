# SPDX-License-Identifier: Apache-2.0
# Prints the hash of each piece of its input that is as long as the body: N bodies, one after the other.
import hashlib, os, sys

size = os.path.getsize(os.environ["DIR"] + "/body")
while piece := sys.stdin.buffer.read(size):
    print(hashlib.sha256(piece).hexdigest())
