// SPDX-License-Identifier: Apache-2.0

package known

// expected lists the cases that may differ, with the possible reasons. If several reasons apply, the first is
// reported. A case that is not here must be the same. The map is never modified.
var expected = map[string][]string{
	"recv/zero-length":                {"receive-zero"},
	"recv/zero-length-from-the-start": {"receive-zero"},

	"peek/offset":                 {"peek-offset"},
	"peek/waitall":                {"waitall"},
	"peek/waitall-from-the-start": {"waitall"},

	"trunc/discard":                           {"discard"},
	"trunc/discard-from-the-start":            {"discard"},
	"trunc/more-than-there-is":                {"discard"},
	"trunc/more-than-there-is-from-the-start": {"discard"},

	"waitall/amid-data":                       {"waitall"},
	"waitall/amid-data-from-the-start":        {"waitall"},
	"waitall/before-data":                     {"waitall"},
	"waitall/before-data-blocking":            {"waitall"},
	"waitall/before-data-from-the-start":      {"waitall"},
	"waitall/end-of-stream":                   {"waitall"},
	"waitall/end-of-stream-from-the-start":    {"waitall"},
	"waitall/header-then-body":                {"waitall"},
	"waitall/header-then-body-blocking":       {"waitall"},
	"waitall/header-then-body-from-the-start": {"waitall"},
	"waitall/large":                           {"waitall"},
	"waitall/large-from-the-start":            {"waitall"},
	"waitall/recvmsg":                         {"waitall"},
	"waitall/recvmsg-from-the-start":          {"waitall"},

	"uring/send-zerocopy":      {"zerocopy-io_uring"},
	"uring/splice-from-socket": {"splice-by-io_uring"},

	"lowat/set-after-data": {"late"},

	"oob/amid-data":     {"urgent"},
	"oob/in-line":       {"urgent"},
	"oob/none":          {"urgent-none"},
	"oob/none-blocking": {"urgent-none"},
	"oob/out-of-band":   {"urgent"},
	"oob/peek":          {"urgent"},
	"oob/poll":          {"urgent"},

	"select/urgent": {"urgent"},

	"fionread/after-partial-read": {"fionread-redirected", "fionread-tcp"},
	"fionread/after-peek":         {"fionread-redirected", "fionread-tcp"},
	"fionread/bytes-by-tcp":       {"fionread-tcp"},
	"fionread/end-of-stream":      {"fionread-redirected", "fionread-tcp"},
	"fionread/first-message":      {"fionread-redirected", "fionread-tcp"},
	"fionread/large":              {"fionread-redirected", "fionread-tcp"},
	"fionread/many-messages":      {"fionread-redirected", "fionread-tcp"},
	"fionread/one-message":        {"fionread-redirected", "fionread-tcp"},
	"fionread/peer-closed":        {"fionread-redirected", "fionread-tcp"},
	"fionread/sizes-the-read":     {"fionread-redirected", "fionread-tcp"},

	"program/go-header-proxy":            {"splice"},
	"program/go-proxy":                   {"splice"},
	"program/go-proxy-slow-client":       {"splice"},
	"program/haproxy-splice":             {"splice"},
	"program/haproxy-splice-always":      {"splice"},
	"program/haproxy-splice-slow-client": {"splice"},
	"program/nginx-proxy-slow-client":    {"fionread-tcp", "fionread-redirected"},
	"program/python-selectors":           {"wakeup"},
	"program/python-signals":             {"wakeup"},

	"send/bad-address":        {"bad-address"},
	"send/partly-bad-address": {"bad-address"},

	"hold/cork":       {"no-nagle"},
	"hold/more-alone": {"no-nagle"},

	"zerocopy/completion": {"zerocopy"},
	"zerocopy/option":     {"zerocopy"},
	"zerocopy/receive":    {"zerocopy-receive"},

	"splice/after-data":                   {"splice"},
	"splice/after-peek":                   {"splice"},
	"splice/after-recv":                   {"splice"},
	"splice/before-data":                  {"splice"},
	"splice/by-sendfile":                  {"splice"},
	"splice/before-data-blocking":         {"splice"},
	"splice/empty":                        {"splice"},
	"splice/end-of-stream":                {"splice"},
	"splice/end-of-stream-blocking":       {"splice"},
	"splice/partial":                      {"splice"},
	"splice/proxy":                        {"splice"},
	"splice/proxy-blocking":               {"splice"},
	"splice/proxy-stops-on-zero":          {"splice"},
	"splice/proxy-stops-on-zero-blocking": {"splice"},
	"splice/proxy-with-fallback":          {"splice"},
	"splice/proxy-with-fallback-blocking": {"splice"},
	"splice/tee":                          {"splice"},

	"go/echo-by-io-copy":           {"splice"},
	"go/header-then-io-copy-proxy": {"splice"},
	"go/io-copy-proxy":             {"splice"},
	"go/io-copy-waits-for-data":    {"splice"},

	"shutdown/answer-comes-late-blocking":        {"wakeup"},
	"shutdown/both-wakes-own-reader-blocking":    {"wakeup"},
	"shutdown/reading-wakes-own-reader-blocking": {"wakeup"},

	"threads/both-ways-on-one-socket-blocking":   {"wakeup"},
	"threads/eight-readers-blocking":             {"wakeup"},
	"threads/reader-while-other-writes-blocking": {"wakeup"},
	"threads/readers-share-a-stream-blocking":    {"wakeup"},
	"threads/readers-share-messages":             {"wakeup", "waitall"},
	"threads/readers-woken-by-the-end-blocking":  {"wakeup"},
	"threads/two-readers-blocking":               {"wakeup"},

	"traffic/both-ways-at-once-blocking": {"wakeup"},
	"traffic/both-ways-fresh-blocking":   {"wakeup"},

	"fork/parent-closes-blocking": {"wakeup"},

	"scm/to-other-process-blocking": {"wakeup"},

	"reset/under-reader-blocking":         {"wakeup"},
	"reset/under-waiting-writer-blocking": {"broken-pipe"},

	"process/data-while-stopped-blocking":    {"wakeup"},
	"process/killed-reader-blocking":         {"broken-pipe"},
	"process/stopped-and-continued-blocking": {"wakeup"},

	"signal/interrupts-recv":                    {"wakeup"},
	"signal/interrupts-recv-with-timeout":       {"wakeup"},
	"signal/interrupts-waitall":                 {"waitall", "wakeup"},
	"signal/interrupts-waitall-from-the-start":  {"waitall", "wakeup"},
	"signal/pipe-under-waiting-writer-blocking": {"broken-pipe"},
	"signal/restarts-read":                      {"wakeup"},
	"signal/restarts-recv":                      {"wakeup"},

	"tls/after-data":  {"tls-refused"},
	"tls/before-data": {"tls-refused"},

	"unread/answer-arrives":        {"unread"},
	"unread/peer-receives":         {"unread"},
	"unread/peer-sends":            {"unread"},
	"unread/poll":                  {"unread-poll"},
	"unread/under-reader":          {"unread"},
	"unread/under-reader-blocking": {"unread"},

	"gone/close-unread":        {"unread"},
	"gone/close-unread-signal": {"unread"},

	"disconnect/recv-after-the-end": {"disconnect-late"},

	"cmsg/inq":            {"inq"},
	"cmsg/inq-round-trip": {"inq"},

	"info/bytes":     {"info"},
	"info/last-data": {"info"},
	"info/segments":  {"info"},

	"fastopen/connected":          {"fastopen-flag"},
	"fastopen/connected-blocking": {"fastopen-flag"},
}
