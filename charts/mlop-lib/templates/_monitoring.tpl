{{/* The operator's metrics, for the Prometheus operator. */}}
{{- define "mlop.podMonitor" -}}
{{- $monitor := (include "mlop.setting" (list . "prometheus") | fromJson).podMonitor -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ .Chart.Name }}
  labels:
    {{- toYaml (merge (include "mlop.labels" . | fromYaml) ($monitor.labels | default dict)) | nindent 4 }}
spec:
  # The series have the label job="{{ .Chart.Name }}".
  jobLabel: app.kubernetes.io/name
  selector:
    matchLabels:
      {{- include "mlop.selector" . | nindent 6 }}
  podMetricsEndpoints:
    - port: health
      path: /metrics
      {{- with $monitor.interval }}
      interval: {{ . }}
      {{- end }}
{{- end }}
