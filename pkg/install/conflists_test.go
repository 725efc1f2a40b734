// SPDX-License-Identifier: Apache-2.0

package install

// conflists have the formats that network plugins install, including their peculiarities.
var conflists = []struct{ name, file, text string }{
	{"calico", "10-calico.conflist", `{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico",
      "log_level": "info",
      "log_file_path": "/var/log/calico/cni/cni.log",
      "datastore_type": "kubernetes",
      "nodename": "node-1",
      "mtu": 0,
      "ipam": {
          "type": "calico-ipam"
      },
      "policy": {
          "type": "k8s"
      },
      "kubernetes": {
          "kubeconfig": "/etc/cni/net.d/calico-kubeconfig"
      }
    },
    {
      "type": "portmap",
      "snat": true,
      "capabilities": {"portMappings": true}
    },
    {
      "type": "bandwidth",
      "capabilities": {"bandwidth": true}
    }
  ]
}`},
	{"flannel", "10-flannel.conflist", `{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
`},
	{"k3s", "10-flannel.conflist", `{
  "name":"cbr0",
  "cniVersion":"1.0.0",
  "plugins":[
    {
      "type":"flannel",
      "delegate":{
        "hairpinMode":true,
        "forceAddress":true,
        "isDefaultGateway":true
      }
    },
    {
      "type":"portmap",
      "capabilities":{
        "portMappings":true
      }
    },
    {
      "type":"bandwidth",
      "capabilities":{
        "bandwidth":true
      }
    }
  ]
}
`},
	{"cilium", "05-cilium.conflist", `
{
  "cniVersion": "0.3.1",
  "name": "cilium",
  "plugins": [
    {
       "type": "cilium-cni",
       "enable-debug": false,
       "log-file": "/var/run/cilium/cilium-cni.log"
    }
  ]
}`},
	{"kindnet", "10-kindnet.conflist", `
{
	"cniVersion": "0.3.1",
	"name": "kindnet",
	"plugins": [
	{
		"type": "ptp",
		"ipMasq": false,
		"ipam": {
			"type": "host-local",
			"dataDir": "/run/cni-ipam-state",
			"routes": [
				{ "dst": "0.0.0.0/0" }
			],
			"ranges": [
				[ { "subnet": "10.244.0.0/24" } ]
			]
		}
		,
		"mtu": 1500
	},
	{
		"type": "portmap",
		"capabilities": {
			"portMappings": true
		}
	}
	]
}
`},
	{"podman", "87-podman-bridge.conflist", `{
  "cniVersion": "0.4.0",
  "name": "podman",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni-podman0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "routes": [{ "dst": "0.0.0.0/0" }],
        "ranges": [
          [
            {
              "subnet": "10.88.0.0/16",
              "gateway": "10.88.0.1"
            }
          ]
        ]
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    },
    {
      "type": "firewall"
    },
    {
      "type": "tuning"
    }
  ]
}
`},
	{"CRI-O", "100-crio-bridge.conflist", `{
  "cniVersion": "1.0.0",
  "name": "crio",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "routes": [
            { "dst": "0.0.0.0/0" },
            { "dst": "::/0" }
        ],
        "ranges": [
            [{ "subnet": "10.85.0.0/16" }],
            [{ "subnet": "1100:200::/24" }]
        ]
      }
    }
  ]
}
`},
	{"weave", "10-weave.conflist", `{
    "cniVersion": "0.3.0",
    "name": "weave",
    "plugins": [
        {
            "name": "weave",
            "type": "weave-net",
            "hairpinMode": true
        },
        {
            "type": "portmap",
            "capabilities": {"portMappings": true},
            "snat": true
        }
    ]
}
`},
	{"AWS", "10-aws.conflist",
		`{"cniVersion":"0.4.0","name":"aws-cni","disableCheck":true,"plugins":[{"name":"aws-cni","type":"aws-cni","vethPrefix":"eni","mtu":"9001","podSGEnforcingMode":"strict","pluginLogFile":"/var/log/aws-routed-eni/plugin.log","pluginLogLevel":"DEBUG","capabilities":{"io.kubernetes.cri.pod-annotations":true}},{"name":"egress-cni","type":"egress-cni","mtu":"9001","enabled":"false","randomizeSNAT":"prng","nodeIP":"","ipam":{"type":"host-local","ranges":[[{"subnet":"fd00::ac:00/118"}]],"routes":[{"dst":"::/0"}],"dataDir":"/run/cni/v4pd/egress-v6-ipam"},"pluginLogFile":"/var/log/aws-routed-eni/egress-v6-plugin.log","pluginLogLevel":"DEBUG"},{"type":"portmap","capabilities":{"portMappings":true},"snat":true}]}`},
	{"Azure", "10-azure.conflist",
		"{\r\n   \"cniVersion\":\"0.3.0\",\r\n   \"name\":\"azure\",\r\n   \"plugins\":[\r\n      {\r\n         \"type\":\"azure-vnet\",\r\n         \"mode\":\"transparent\",\r\n         \"ipsToRouteViaHost\":[\"169.254.20.10\"],\r\n         \"ipam\":{\r\n            \"type\":\"azure-vnet-ipam\"\r\n         }\r\n      },\r\n      {\r\n         \"type\":\"portmap\",\r\n         \"capabilities\":{\r\n            \"portMappings\":true\r\n         },\r\n         \"snat\":true\r\n      }\r\n   ]\r\n}\r\n"},
	{"antrea", "10-antrea.conflist", `{
    "cniVersion":"0.3.0",
    "name": "antrea",
    "plugins": [
        {
            "type": "antrea",
            "ipam": {
                "type": "host-local"
            }
        }
        ,
        {
            "type": "portmap",
            "capabilities": {"portMappings": true}
        }
        ,
        {
            "type": "bandwidth",
            "capabilities": {"bandwidth": true}
        }
    ]
}
`},
	{"GKE ptp with numbers", "10-gke-ptp.conflist",
		`{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[{"type":"ptp","mtu":1460,"id":9007199254740993,"ratio":1.50,"big":1E+2,"ipam":{"type":"host-local","subnet":"10.0.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}`},
	{"istio behind it", "05-chained.conflist", `{
  "cniVersion": "1.0.0",
  "name": "k8s-pod-network",
  "plugins": [
    { "type": "calico", "ipam": { "type": "calico-ipam" } },
    {
      "ambient_enabled": true,
      "kubernetes": { "cni_bin_dir": "/opt/cni/bin", "kubeconfig": "/etc/cni/net.d/ZZZ-istio-cni-kubeconfig" },
      "name": "istio-cni",
      "type": "istio-cni"
    }
  ]
}
`},
	{"several versions and unknown keys", "10-ours.conflist", `{ "cniVersions": ["0.4.0", "1.0.0", "1.1.0", "9.0.0"], "name": "net.with-dots_1",
  "disableGC": "true", "x-comment": "<&>  ü",
  "plugins": [ {"type":"bridge"} ] }`},
	{"rke2 canal", "10-canal.conflist", `{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico",
      "log_level": "info",
      "datastore_type": "kubernetes",
      "nodename": "n",
      "mtu": 1450,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "usePodCidr"}]]},
      "policy": {"type": "k8s"},
      "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}
    },
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
  ]
}`},
}

// singles are files with one plugin and no list.
var singles = []struct{ name, file, text string }{
	{"kube-router of old", "10-kuberouter.conf", `{
    "name":"ekvm",
    "cniVersion": "0.3.0",
    "type":"bridge",
    "bridge":"kube-bridge",
    "isDefaultGateway":true,
    "ipam": {
        "type":"host-local",
        "subnet":"10.1.2.0/24"
    }
}
`},
	{"terway", "10-terway.conf", `{"cniVersion": "0.4.0","name": "terway","type": "terway"}`},
	{"a .json with numbers", "20-net.json",
		"\n{ \"type\": \"ptp\", \"name\": \"net\", \"mtu\": 9007199254740993, \"cniVersion\": \"1.0.0\", \"ipam\": { \"type\": \"host-local\" } }\n\n"},
}
