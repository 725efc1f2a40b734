# SPDX-License-Identifier: Apache-2.0
# Prints the hash of each line of its input.
import hashlib, sys

for line in sys.stdin.buffer:
    print(hashlib.sha256(line.strip()).hexdigest())
