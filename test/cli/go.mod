module github.com/sockmap-cni/sockmap-cni/test/cli

go 1.26.0

replace github.com/sockmap-cni/sockmap-cni => ../..

require (
	github.com/containernetworking/cni v1.3.1
	github.com/sockmap-cni/sockmap-cni v0.0.0-00010101000000-000000000000
	golang.org/x/tools v0.51.0
	google.golang.org/grpc v1.85.0
	k8s.io/cri-api v0.37.2
	rsc.io/script v0.0.2
)

require (
	github.com/Masterminds/semver/v3 v3.5.0 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cilium/ebpf v0.22.0 // indirect
	github.com/moby/sys/mountinfo v0.7.3 // indirect
	go.opentelemetry.io/otel v1.45.0 // indirect
	go.opentelemetry.io/otel/trace v1.45.0 // indirect
	go.uber.org/automaxprocs v1.6.0 // indirect
	golang.org/x/mod v0.41.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
