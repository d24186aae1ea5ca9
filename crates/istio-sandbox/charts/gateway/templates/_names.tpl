{{- define "name" -}}
{{ .Values.name | default .Release.Name }}
{{- end }}
{{- define "labels" -}}
{{ merge (dict) .Values.labels (dict "app" (include "name" .)) | toYaml }}
{{- end }}
{{- define "selector" -}}
app: {{ .Values.labels.app | default (include "name" .) }}
istio: {{ .Values.labels.istio }}
{{- end }}
