// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// confDir is the control plane's directory of certificates, as with kubeadm.
const confDir = "/etc/kubernetes"

const apiServer = "https://192.0.2.10:6443"

// authority signs the certificates by which the parts of the cluster identify each other.
type authority struct {
	cert   *x509.Certificate
	key    crypto.Signer
	pem    []byte
	serial int64
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{cert: cert, key: key, pem: encode("CERTIFICATE", der), serial: 1}
	return a, os.WriteFile(filepath.Join(confDir, "ca.crt"), a.pem, 0o644)
}

// issue makes a certificate for client and server, with a user's name and group, and hosts.
func (a *authority) issue(name, group string, hosts ...string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if group != "" {
		template.Subject.Organization = []string{group}
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return encode("CERTIFICATE", der), key, err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(private *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(private)
	return encode("EC PRIVATE KEY", der), err
}

// pair writes a certificate and its key.
func (a *authority) pair(file, name, group string, hosts ...string) error {
	cert, key, err := a.issue(name, group, hosts...)
	if err != nil {
		return fmt.Errorf("make certificate of %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(confDir, file+".crt"), cert, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(confDir, file+".key"), key, 0o600)
}

// kubeconfig writes the configuration of a client of the API server.
func (a *authority) kubeconfig(file, name, group string) error {
	cert, key, err := a.issue(name, group)
	if err != nil {
		return fmt.Errorf("make certificate of %s: %w", name, err)
	}
	type named map[string]any
	b, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "cluster",
		"clusters": []named{{"name": "cluster", "cluster": map[string]any{
			"server": apiServer, "certificate-authority-data": a.pem,
		}}},
		"users": []named{{"name": name, "user": map[string]any{
			"client-certificate-data": cert, "client-key-data": key,
		}}},
		"contexts": []named{{"name": "cluster", "context": map[string]any{"cluster": "cluster", "user": name}}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(confDir, file), b, 0o600)
}

// makeCredentials makes all of them. The names are those to which Kubernetes grants rights by default.
func makeCredentials() error {
	if err := os.MkdirAll(confDir, 0o755); err != nil {
		return err
	}
	a, err := newAuthority()
	if err != nil {
		return fmt.Errorf("make certificate authority: %w", err)
	}
	ip := nodeIP.Addr().String()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	accounts, err := encodeKey(private)
	if err != nil {
		return err
	}
	for _, err := range []error{
		os.WriteFile(filepath.Join(confDir, "sa.key"), accounts, 0o600),
		a.pair("apiserver", "kube-apiserver", "", ip, serviceOfAPI, "127.0.0.1", "localhost",
			"kubernetes.default.svc"),
		a.pair("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
		a.pair("kubelet", "system:node:"+nodeName, "system:nodes", ip, nodeName),
		a.kubeconfig("admin.conf", "admin", "system:masters"),
		a.kubeconfig("kubelet.conf", "system:node:"+nodeName, "system:nodes"),
		a.kubeconfig("controller-manager.conf", "system:kube-controller-manager", ""),
		a.kubeconfig("scheduler.conf", "system:kube-scheduler", ""),
		a.kubeconfig("proxy.conf", "system:kube-proxy", ""),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}
