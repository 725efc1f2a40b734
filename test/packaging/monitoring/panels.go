// SPDX-License-Identifier: Apache-2.0

package monitoring

import "strings"

// share of a that is in a and b, of rates over the panel's interval.
func share(a, b, selector string) string {
	ra, rb := rate(a, selector), rate(b, selector)
	return ra + " / (" + ra + " + " + rb + ")"
}

func rate(metric, selector string, by ...string) string {
	sum := "sum"
	if len(by) > 0 {
		sum += " by (" + strings.Join(by, ", ") + ")"
	}
	return sum + " (rate(" + metric + "{" + selector + "}[$__rate_interval]))"
}

func stat(title, unit, about, expr string) panel {
	return panel{title, "stat", unit, 4, 4, about, []query{{expr, ""}}}
}

func graph(title, unit, about string, queries ...query) panel {
	return panel{title, "timeseries", unit, 12, 8, about, queries}
}

func table(title, about, expr string) panel {
	return panel{title, "table", "short", 12, 8, about, []query{{expr, ""}}}
}

func rows() []row {
	return []row{
		{"Overview", overview()},
		{"Traffic", traffic()},
		{"Connections", connections()},
		{"Nodes", nodes()},
		{"Plugin and programs", plugin()},
		{"Agents", agents()},
	}
}

func overview() []panel {
	return []panel{
		stat("Nodes", "short", "Nodes that export metrics.", "count(sockmap_enabled{"+of+"})"),
		stat("Switched off", "short",
			"Nodes after sockmapctl disable.", "count(sockmap_enabled{"+of+"} == 0) or vector(0)"),
		stat("Accelerated", "short",
			"Containers that are accelerated.", `sum(sockmap_attachments{state="accelerated",`+of+"})"),
		stat("Declined", "short",
			"Containers that ask for acceleration and cannot have it.",
			`sum(sockmap_attachments{state="declined",`+of+"})"),
		stat("Pods left out", "short", "They ran before the installation and are not adopted.",
			`sum(sockmap_pods{state="left-out",reason="older",`+of+"}) or vector(0)"),
		stat("Redirected", "percentunit",
			"Share of the bytes between containers of one node that skipped the TCP/IP stack.",
			share("sockmap_redirected_bytes_total", "sockmap_tcp_bytes_total", ofPods)),
		stat("Live sockets", "short",
			"Two for each connection with both ends on one node.", "sum(sockmap_active_flows{"+ofPods+"})"),
	}
}

func traffic() []panel {
	bytes, tcp := "sockmap_redirected_bytes_total", "sockmap_tcp_bytes_total"
	return []panel{
		graph("Bytes", "Bps", "Bytes of sockets in the sockhash, counted at the sender.",
			query{rate(bytes, ofPods), "socket to socket"}, query{rate(tcp, ofPods), "TCP"}),
		graph("Messages", "ops", "Calls of send.",
			query{rate("sockmap_redirected_messages_total", ofPods), "socket to socket"},
			query{rate("sockmap_tcp_messages_total", ofPods), "TCP"}),
		graph("Redirected, by node", "percentunit", "Share of the bytes.",
			query{
				rate(bytes, ofPods, "instance", "node") + " / (" + rate(bytes, ofPods, "instance",
					"node") + " + " + rate(tcp, ofPods, "instance", "node") + ")",
				"{{node}} {{instance}}",
			}),
		graph("Redirected bytes, pods with most", "Bps", "",
			query{"topk(10, " + rate(bytes, ofPods, "namespace", "pod") + ")", "{{namespace}}/{{pod}}"}),
	}
}

func connections() []panel {
	return []panel{
		graph("Live sockets, by mode", "short", "",
			query{"sum by (mode) (sockmap_active_flows{" + ofPods + "})", "{{mode}}"}),
		graph("New connections, by result", "cps",
			"joined: both ends are on this node and may be redirected; remote: the other end is elsewhere, on plain TCP.",
			query{rate("sockmap_flows_total", ofPods, "result"), "{{result}}"}),
		graph("Back to TCP, by reason", "ops", "The values of reason are explained in docs/METRICS.md.",
			query{rate("sockmap_fallback_total", ofPods, "reason"), "{{reason}}"}),
		graph("Back to TCP, pods with most", "ops", "",
			query{"topk(10, " + rate("sockmap_fallback_total", ofPods, "namespace", "pod", "reason") + ")",
				"{{namespace}}/{{pod}} {{reason}}"}),
		graph("Largest backlog, pods with most", "bytes",
			"For one reader of the pod. maxBacklogBytes bounds it, or one message that is larger.",
			query{"topk(10, max by (namespace, pod) (sockmap_backlog_high_bytes{" + ofPods + "}))",
				"{{namespace}}/{{pod}}"}),
		graph("Connections without a rendezvous", "cps", "They stay on TCP: maxSockets is too small.",
			query{rate("sockmap_rendezvous_lost_total", of, "instance", "node"), "{{node}} {{instance}}"}),
		graph("Sockets that count against a pod's share, pods with most", "short",
			"Once maxSockets is half used, a pod gets at most a quarter of it.",
			query{
				"topk(10, max by (namespace, pod) (sockmap_share_sockets{" + ofPods + "}))",
				"{{namespace}}/{{pod}}",
			}),
		graph("Callbacks, readers and windows", "ops", "docs/METRICS.md explains each of them.",
			query{rate("sockmap_callbacks_lost_total", of), "callbacks lost to other sock_ops programs"},
			query{rate("sockmap_readers_woken_total", of), "readers woken once more"},
			query{rate("sockmap_windows_refused_total", of), "windows that did not grow"}),
	}
}

func nodes() []panel {
	return []panel{
		graph("How full the maps are", "percentunit", "When a map is full, new connections stay on TCP.",
			query{"max by (instance, node, map) (sockmap_map_entries{" + of + "} / sockmap_map_max_entries{" + of +
				"})", "{{node}} {{instance}} {{map}}"}),
		graph("Failed scrapes", "short", "The programs are not loaded, or are of another version.",
			query{"sum by (instance, node) (increase(sockmap_collection_errors_total{" + of + "}[$__rate_interval]))",
				"{{node}} {{instance}}"}),
		graph("Containers that are not accelerated, by state and reason", "short",
			"docs/METRICS.md explains each of them.",
			query{`sum by (state, reason) (sockmap_attachments{state!="accelerated",` + of + "}) > 0",
				"{{state}} {{reason}}"}),
		graph("Pods that are not accelerated, by state and reason", "short",
			"Whether the plugin was called for them or not.",
			query{`sum by (state, reason) (sockmap_pods{state!="accelerated",` + of + "}) > 0",
				"{{state}} {{reason}}"}),
		table("Hazards of the kernels", "Guarded ones included.", "sockmap_hazard{"+of+"} == 1"),
		table("Guards that do not run",
			"sockmapctl status has the kernel's error.", "sockmap_guard_active{"+of+"} == 0"),
		table("Hazards that a guard cures", "", "sockmap_hazard_guarded{"+of+"} == 1"),
		table("Versions", "", "count by (version) (sockmap_build_info{"+of+"})"),
	}
}

func agents() []panel {
	return []panel{
		table("Parts that are not ready", "/readyz?verbose of the agent has the details.",
			"sockmap_agent_part_ready{"+of+"} == 0"),
		table("Agents that are not ready",
			"Those whose part counts, by agent.readyMeans.", "sockmap_agent_ready{"+of+"} == 0"),
		graph("Actions of agents", "ops", "",
			query{rate("sockmap_agent_repairs_total", of), "repairs of what others undid"},
			query{rate("sockmap_agent_failures_total", of), "steps that failed"},
			query{rate("sockmap_agent_reaped_total", of), "leftovers of dead containers removed"},
			query{rate("sockmap_agent_adopted_total", of), "pods adopted that ran before"}),
		graph("Time since the agent saw all pods", "s",
			"More than the agent's interval: it could not list them.",
			query{"time() - sockmap_agent_pods_looked_timestamp_seconds{" + of + "}", "{{node}} {{instance}}"}),
		table("Agents that cannot watch directories",
			"They check every few seconds instead.", "sockmap_agent_polling{"+of+"} == 1"),
	}
}

func plugin() []panel {
	const duration = "sockmap_cni_duration_seconds"
	return []panel{
		graph("Calls of the plugin", "s", "A starting pod waits for ADD.",
			query{"histogram_quantile(0.99, " + rate(duration+"_bucket", of, "le", "command") + ")",
				"{{command}}, 99 of 100 are shorter"},
			query{rate(duration+"_sum", of, "command") + " / " + rate(duration+"_count", of, "command"),
				"{{command}}, mean"}),
		graph("Failed calls of the plugin", "cps",
			"reported=false: the runtime got no error, and the pod starts without acceleration. Codes are in docs/METRICS.md.",
			query{rate("sockmap_cni_errors_total", of, "command", "code", "reported"),
				"{{command}} {{code}} reported={{reported}}"}),
		graph("Actions of guards", "ops",
			"", query{rate("sockmap_guard_actions_total", of, "guard", "action"), "{{guard}} {{action}}"}),
		graph("Time of each run of a program", "s", "While sysctl kernel.bpf_stats_enabled is 1.",
			query{rate("sockmap_program_run_seconds_total", of, "program") + " / " + rate("sockmap_program_runs_total",
				of, "program"), "{{program}}"}),
		table("Nodes with pods that have no series",
			"See --max-pods.", "sockmap_pods_without_series{"+of+"} > 0"),
	}
}
