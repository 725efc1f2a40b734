// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
)

// complaint matches the first line of what a kernel says when it is not well. A warning counts at the beginning of a
// message only: "Spectre V2 : WARNING: ..." and the like are advice to the administrator.
var complaint = regexp.MustCompile(strings.Join([]string{
	`^WARNING: `,
	`\bBUG: `, `kernel BUG at`, `^Oops\b`, `Oops: `, `general protection fault`, `^BUG\b`,
	`Kernel panic`, `refcount_t: `, `\bKASAN: `, `\bUBSAN: `, `\bKFENCE: `,
	`list_(add|del) corruption`, `INFO: task .* blocked for more than`, `rcu: INFO: .* stall`, `rcu: INFO: .* detected`,
	`Out of memory: `, `page allocation failure`, `unregister_netdevice: waiting for`,
	`protocol .* is buggy`, `Unable to mount root`,
}, "|"))

// stamp is what printk puts before a message, and on some kernels the thread or processor.
var stamp = regexp.MustCompile(`^\[ *\d+\.\d+\](\[ *[TC]\d+\])? ?`)

// maxTrouble is how many lines are quoted of one complaint. A backtrace with registers has some 60.
const maxTrouble = 80

// troubles quotes the complaints in the texts. What the second text repeats of the first is quoted once.
func troubles(texts ...string) (all []string) {
	seen := map[string]bool{}
	for _, text := range texts {
		lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
		for i := 0; i < len(lines); i++ {
			line := stamp.ReplaceAllString(lines[i], "")
			if !complaint.MatchString(line) || seen[line] {
				continue
			}
			end := i + lengthOf(lines[i:])
			for _, quoted := range lines[i:end] {
				seen[stamp.ReplaceAllString(quoted, "")] = true
			}
			all = append(all, strings.Join(lines[i:end], "\n"))
			i = end - 1
		}
	}
	return all
}

// lengthOf is how many of the lines belong to the complaint that they begin with. A backtrace ends with a mark of its own;
// without a backtrace the one line is all.
func lengthOf(lines []string) int {
	lines = lines[:min(len(lines), maxTrouble)]
	for n, line := range lines {
		if strings.Contains(line, "---[ end ") {
			return n + 1
		}
	}
	n := 1
	for n < len(lines) && continues.MatchString(stamp.ReplaceAllString(lines[n], "")) {
		n++
	}
	return n
}

// continues matches the lines of a backtrace that has no end mark: indented ones, and its headings.
var continues = regexp.MustCompile(`^( |#PF:|PGD |CPU: |Hardware name:|Call Trace:|RIP: |Code: |RSP: |R[A-Z0-9]{2}: |Modules linked in:|Workqueue: |Tainted: )`)
