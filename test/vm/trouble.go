// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
)

// complaint matches the first line of a kernel message that reports trouble. A warning counts at the
// beginning of a message only: "Spectre V2 : WARNING: ..." and the like are advice to the administrator.
var complaint = regexp.MustCompile(strings.Join([]string{
	`^WARNING: `,
	`\bBUG: `, `kernel BUG at`, `^Oops\b`, `Oops: `, `general protection fault`, `^BUG\b`,
	`Kernel panic`, `refcount_t: `, `\bKASAN: `, `\bUBSAN: `, `\bKFENCE: `,
	`list_(add|del) corruption`, `INFO: task .* blocked for more than`, `rcu: INFO: .* stall`,
	`rcu: INFO: .* detected`,
	`Out of memory: `, `page allocation failure`, `unregister_netdevice: waiting for`,
	`protocol .* is buggy`, `Unable to mount root`,
}, "|"))

// stamp is what printk puts before a message: the time, and on some kernels the thread or processor.
var stamp = regexp.MustCompile(`^\[ *\d+\.\d+\](\[ *[TC]\d+\])? ?`)

// maxTrouble is the number of lines that are quoted of one complaint. A backtrace with registers has some 60.
const maxTrouble = 80

// troubles quotes the complaints in the texts. Complaints that are in both texts are quoted once.
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

// lengthOf is the number of lines that belong to the complaint at their beginning. A backtrace has an end
// mark; a complaint without a backtrace has one line.
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

// continues matches the lines of a backtrace without an end mark: indented ones, and its headings.
var continues = regexp.MustCompile(`^( |#PF:|PGD |CPU: |Hardware name:|Call Trace:|RIP: |Code: |RSP: |R[A-Z0-9]{2}: |Modules linked in:|Workqueue: |Tainted: )`)
