// SPDX-License-Identifier: Apache-2.0

// Package cluster boots a real Kubernetes on this machine and installs sockmap in it as users do: with Helm,
// from the chart, and the image that the chart names. etcd, the control plane, kubelet, kube-proxy,
// containerd and runc are the real programs, built from Go modules (except runc, which is Debian's). Pods
// send each other data, every byte is compared, and the results are read as an operator reads them: from
// kubectl, the agent's metrics, sockmapctl.
//
// # Namespaces
//
// The test executes itself again in its own namespaces: mounts, network, processes, host name. There it has a
// node with the customary paths (/etc/cni/net.d, /opt/cni/bin, /var/lib/kubelet, /run, /sys/fs/bpf) that do
// not belong to this machine. Everything disappears with the namespaces, except the cgroups, which the
// process outside removes, and the logs in .cache/cluster/logs.
//
// The cases run in the order of TestCluster, on one cluster. Each can also run alone:
//
//	make test-cluster RUN='TestCluster/rolling'
//
// It needs root, cgroup2 mounted anywhere, and the packages of test/setup.sh cluster.
package cluster
