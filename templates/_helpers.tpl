{{/* Labels of every object; those that select a process' pods are added where there are pods. */}}
{{- define "belay.labels" -}}
app.kubernetes.io/name: belay
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: belay
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels that select the pods of a process: (dict "root" $ "process" "gateway"). They never change. */}}
{{- define "belay.selector" -}}
app.kubernetes.io/name: belay
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .process }}
{{- end -}}

{{/* Labels of an object that belongs to one process. */}}
{{- define "belay.processLabels" -}}
{{ include "belay.labels" .root }}
app.kubernetes.io/component: {{ .process }}
{{- end -}}

{{/* The account of the operator. The admission policies tell the processes apart by these names, so they must differ. */}}
{{- define "belay.operatorServiceAccount" -}}
{{- if eq .Values.operator.serviceAccount.name .Values.gateway.serviceAccount.name -}}
{{- fail "operator.serviceAccount.name and gateway.serviceAccount.name must differ: the admission policies tell the processes apart by them" -}}
{{- end -}}
{{- .Values.operator.serviceAccount.name -}}
{{- end -}}

{{/* The account of the gateways. */}}
{{- define "belay.gatewayServiceAccount" -}}
{{- .Values.gateway.serviceAccount.name -}}
{{- end -}}

{{/* The one image, by digest where one is given. */}}
{{- define "belay.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Namespaces that the processes watch: those given and their own; none: all. */}}
{{- define "belay.watched" -}}
{{- if .Values.watchNamespaces -}}
{{- append .Values.watchNamespaces .Release.Namespace | uniq | join "," -}}
{{- end -}}
{{- end -}}

{{/* Kubernetes waits so long for a gateway to end: for its drain, its writes and its Lease, and never less than 30 s. */}}
{{- define "belay.gatewayGrace" -}}
{{- $drain := .Values.gateway.settings.drainSeconds | default 5 | int64 -}}
{{- $shutdown := .Values.gateway.settings.shutdownSeconds | default 10 | int64 -}}
{{- max 30 (add $drain $shutdown 15) -}}
{{- end -}}
