// SPDX-License-Identifier: Apache-2.0

// Package cluster boots a real Kubernetes on this machine and installs sockmap in it as its users do: with Helm, from the
// chart, and the image that the chart names. etcd, the control plane, kubelet, kube-proxy, containerd and runc are the real
// programs, built from Go modules (but runc, which is Debian's). Pods talk to each other, every byte is compared, and what
// became of it is read where an operator would: kubectl, the agent's metrics, sockmapctl.
//
// # Where it runs
//
// The test starts itself over in namespaces of its own: mounts, network, processes, host name. There it has a node with
// the customary paths (/etc/cni/net.d, /opt/cni/bin, /var/lib/kubelet, /run, /sys/fs/bpf) that are not this machine's.
// Everything goes with the namespaces but the cgroups, which the process outside removes, and the logs, which stay in
// .cache/cluster/logs.
//
// The cases run in the order of TestCluster, on one cluster. Each of them can be run alone, too:
//
//	make test-cluster RUN='TestCluster/rolling'
//
// It needs root, cgroup2 mounted anywhere, and the packages of test/setup.sh cluster.
package cluster
