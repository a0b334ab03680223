{{/* A value as the text that the environment holds: whole numbers in digits, lists with commas. */}}
{{- define "belay.text" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "float64" . -}}
{{- . | int64 -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* Settings in camelCase as environment: `maxHandshakes` is BELAY_MAX_HANDSHAKES. The sweeper's has a name of its own. */}}
{{- define "belay.settingsEnv" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ eq $name "sweeperInterval" | ternary "DELEGATION_SWEEPER_INTERVAL_S" (printf "BELAY_%s" ($name | snakecase | upper)) }}
  value: {{ include "belay.text" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What both processes are told: (dict "root" $ "threshold" NAME), NAME of the variable for timing.stuckThresholdSeconds. */}}
{{- define "belay.commonEnv" -}}
{{- $values := .root.Values -}}
- name: BELAY_NAMESPACE
  value: {{ .root.Release.Namespace }}
- name: BELAY_LOG_FORMAT
  value: {{ $values.logFormat }}
{{- with include "belay.watched" .root }}
- name: BELAY_WATCH_NAMESPACES
  value: {{ . | quote }}
{{- end }}
{{- include "belay.settingsEnv" (omit $values.timing "stuckThresholdSeconds") }}
{{- with $values.timing.stuckThresholdSeconds }}
- name: {{ $.threshold }}
  value: {{ include "belay.text" . | quote }}
{{- end }}
{{- end -}}

{{/* How a gateway reaches NATS. */}}
{{- define "belay.busEnv" -}}
{{- with .Values.bus }}
{{- if and .existingSecret.name .existingSecret.urlKey }}
- name: BELAY_BUS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret.name }}
      key: {{ .existingSecret.urlKey }}
{{- else if .url }}
- name: BELAY_BUS_URL
  value: {{ .url | quote }}
{{- end }}
{{- if and .existingSecret.name .existingSecret.tokenKey }}
- name: BELAY_BUS_TOKEN_FILE
  value: /etc/belay/bus/token
{{- end }}
{{- if .subject }}
- name: BELAY_BUS_SUBJECT
  value: {{ .subject | quote }}
{{- end }}
{{- end }}
{{- end -}}
