// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	podNetwork     = "10.244.0.0/24"
	serviceNetwork = "10.96.0.0/16"
	serviceOfAPI   = "10.96.0.1" // the first address of that network
)

// The parts of the cluster.
var etcd, api, controllers, scheduler, runtimeDaemon, kubelet, proxy *daemon

// atBoot are the files that the kernel itself puts into every bpffs.
var atBoot []string

// boot starts all parts, each after those that it needs.
func boot() error {
	start := time.Now()
	entries, err := os.ReadDir(bpffsMount.target)
	if err != nil {
		return err
	}
	for _, e := range entries {
		atBoot = append(atBoot, e.Name())
	}
	if err := errors.Join(makeCredentials(), prepareRuntime(), prepareKubelet(),
		prepareProxy("iptables")); err != nil {
		return err
	}
	etcd = &daemon{name: "etcd", path: filepath.Join(tools.bin, "server"),
		ready: func() error { return answers("http://127.0.0.1:2379/readyz") },
		// The state of the cluster need not survive a crash of this machine.
		args: []string{"--name=" + nodeName, "--data-dir=/var/lib/etcd/data", "--unsafe-no-fsync"}}
	api = &daemon{name: "apiserver", path: filepath.Join(tools.bin, "kube-apiserver"), args: apiArgs(),
		ready: func() error {
			_, err := kubectl("get", "--raw", "/readyz")
			return err
		}}
	controllers = &daemon{name: "controllers", path: filepath.Join(tools.bin, "kube-controller-manager"),
		args: controllerArgs(), ready: func() error {
			_, err := kubectl("get", "serviceaccount", "default")
			return err
		}}
	scheduler = &daemon{name: "scheduler", path: filepath.Join(tools.bin, "kube-scheduler"),
		ready: func() error { return nil },
		args: []string{"--kubeconfig=" + confDir + "/scheduler.conf", "--leader-elect=false",
			"--bind-address=127.0.0.1"}}
	runtimeDaemon = &daemon{name: "containerd", path: filepath.Join(tools.containerd, "containerd"),
		ready: runtimeReady}
	kubelet = &daemon{name: "kubelet", path: filepath.Join(tools.bin, "kubelet"), args: kubeletArgs(),
		ready: nodeReady}
	proxy = &daemon{name: "proxy", path: filepath.Join(tools.bin, "kube-proxy"),
		args:  []string{"--config=" + proxyConfig},
		ready: func() error { return answers("http://127.0.0.1:10256/healthz") }}
	for _, d := range []*daemon{runtimeDaemon, etcd, api, controllers, scheduler} {
		if err := d.start(); err != nil {
			return err
		}
	}
	if err := importImages(); err != nil {
		return err
	}
	for _, d := range []*daemon{kubelet, proxy} {
		if err := d.start(); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "The cluster is there after %s.\n", time.Since(start).Round(100*time.Millisecond))
	return nil
}

// shutDown stops the parts, in the opposite order. Pods end with the namespaces.
func shutDown() error {
	var errs []error
	for _, d := range []*daemon{proxy, kubelet, runtimeDaemon, scheduler, controllers, api, etcd} {
		signal := unix.SIGTERM
		if d == controllers || d == scheduler || d == api {
			signal = unix.SIGKILL // they would wait for each other's requests
		}
		errs = append(errs, d.stop(signal))
	}
	return errors.Join(errs...)
}

func apiArgs() []string {
	in := func(file string) string { return filepath.Join(confDir, file) }
	return []string{
		"--advertise-address=" + nodeIP.Addr().String(), "--secure-port=6443",
		"--etcd-servers=http://127.0.0.1:2379",
		"--client-ca-file=" + in("ca.crt"), "--tls-cert-file=" + in("apiserver.crt"),
		"--tls-private-key-file=" + in("apiserver.key"), "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--service-cluster-ip-range=" + serviceNetwork, "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + in("sa.key"), "--service-account-signing-key-file=" + in("sa.key"),
		"--kubelet-certificate-authority=" + in("ca.crt"),
		"--kubelet-client-certificate=" + in("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + in("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
	}
}

func controllerArgs() []string {
	return []string{
		"--kubeconfig=" + confDir + "/controller-manager.conf", "--leader-elect=false", "--bind-address=127.0.0.1",
		"--use-service-account-credentials=true", "--service-account-private-key-file=" + confDir + "/sa.key",
		"--root-ca-file=" + confDir + "/ca.crt",
	}
}
