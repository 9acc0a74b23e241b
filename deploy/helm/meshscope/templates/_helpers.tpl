{{- define "meshscope.labels" -}}
app.kubernetes.io/name: meshscope
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "meshscope.selector" -}}
app.kubernetes.io/name: meshscope
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Names of objects of the whole cluster bear the namespace when the release is not called meshscope. */}}
{{- define "meshscope.clusterName" -}}
{{- if eq .Release.Name "meshscope" }}meshscope{{ else }}{{ .Release.Name }}-{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "meshscope.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* A rule file of alerts/, the addresses of its runbooks completed. */}}
{{- define "meshscope.pack" -}}
{{- $path := printf "files/alerts/%s.yaml" .name -}}
{{- $text := .root.Files.Get $path -}}
{{- if not $text }}{{ fail (printf "there is no rule pack %q: packs are the files of alerts/ without their ending" .name) }}{{ end -}}
{{- with .root.Values.rules.runbookBase }}{{ $text = replace "runbook_url: docs/" (printf "runbook_url: %s/docs/" (trimSuffix "/" .)) $text }}{{ end -}}
{{- $text | trim -}}
{{- end }}

{{/* meshscope.yaml: what the chart knows, then values `config` over it. */}}
{{- define "meshscope.configuration" -}}
{{- $web := dict "listen" "0.0.0.0:7070" -}}
{{- if .Values.access.secretName }}{{ $_ := set $web "bearer_token_files" (list "/etc/meshscope/access/token") }}{{ end -}}
{{- $made := dict
      "web" $web
      "otlp" (dict "grpc_listen" "0.0.0.0:4317" "http_listen" "0.0.0.0:4318")
      "rule_files" (list "/etc/meshscope/rules/*.yaml") -}}
{{- $mesh := dict -}}
{{- with .Values.mesh.discover }}{{ $_ := set $mesh "discover" . }}{{ end -}}
{{- if .Values.mesh.watchDeclared }}{{ $_ := set $mesh "declared" (dict "cluster" true) }}{{ end -}}
{{- if $mesh }}{{ $_ := set $made "mesh" $mesh }}{{ end -}}
{{- toYaml (mergeOverwrite $made (deepCopy .Values.config)) -}}
{{- end }}

{{/* A probe of one path. With access control the kubelet has no token, so meshscope itself asks. */}}
{{- define "meshscope.probe" -}}
{{- if .root.Values.access.secretName -}}
exec:
  command: [meshscope, doctor, --probe, {{ .what }}, --token-file, /etc/meshscope/access/token]
{{- else -}}
httpGet:
  path: /-/{{ .what }}
  port: http
{{- end }}
{{- end }}
