{{/* Labels of every object; those that select a process' pods are added where there are pods. */}}
{{- define "belay.labels" -}}
app.kubernetes.io/name: belay
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: belay
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
