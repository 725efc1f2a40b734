// SPDX-License-Identifier: Apache-2.0

package main

const flagCgroup = "`PATH` of a cgroup2 directory, in the file system or below the cgroup2 mount"
