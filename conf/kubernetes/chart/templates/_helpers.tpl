{{- define "sockmap-cni.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sockmap-cni.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sockmap-cni.labels" -}}
{{ include "sockmap-cni.selector" . }}
app.kubernetes.io/component: agent
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* The DaemonSet must not select the hook's pods, so these labels are not those of its selector. */ -}}
{{- define "sockmap-cni.hookLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}-uninstall
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: uninstall
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "sockmap-cni.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "sockmap-cni.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "sockmap-cni.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- /* The directory of the pinned state must lie right in the bpffs that the pod sees. */ -}}
{{- define "sockmap-cni.bpffsPath" -}}
{{- $path := get .Values.cni.config "bpffsPath" | default (printf "%s/sockmap" .Values.host.bpffs) -}}
{{- if ne (dir $path) .Values.host.bpffs -}}
{{- fail (printf "cni.config.bpffsPath: %s is not a directory right in host.bpffs, %s: the agent could not see what the plugin pins" $path .Values.host.bpffs) -}}
{{- end -}}
{{- $path -}}
{{- end -}}

{{- /* The plugin needs the path of the state if it is not the default. */ -}}
{{- define "sockmap-cni.config" -}}
{{- $config := .Values.cni.config -}}
{{- $path := include "sockmap-cni.bpffsPath" . -}}
{{- if ne $path "/sys/fs/bpf/sockmap" -}}
{{- $config = merge (dict "bpffsPath" $path) $config -}}
{{- end -}}
{{- range $key := list "maxSockets" "maxBacklogBytes" "maxBacklogMessages" "natRefreshSeconds" -}}
{{- if hasKey $config $key -}}
{{- $config = set (deepCopy $config) $key (int64 (get $config $key)) -}}
{{- end -}}
{{- end -}}
{{- if $config -}}{{- toJson $config -}}{{- end -}}
{{- end -}}

{{- /* Brackets, because either may be an IPv6 address. */ -}}
{{- define "sockmap-cni.listen" -}}
--listen=[{{ .Values.metrics.address | default "$(HOST_IP)" }}]:{{ int .Values.metrics.port }}
{{- end -}}

{{- define "sockmap-cni.probe" -}}
httpGet:
  path: {{ .path }}
  port: metrics
  {{- if not (has .address (list "" "0.0.0.0" "::")) }}
  host: {{ .address | quote }}
  {{- end }}
timeoutSeconds: 5
{{- end -}}
