{{/* A PodMonitor of pods that operators make, in all namespaces: root, name, values, labels of the pods, port. */}}
{{- define "mlop-monitoring.podMonitor" -}}
{{- $ := index . 0 }}{{- $values := index . 2 }}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ index . 1 }}
  labels:
    {{- include "mlop-monitoring.labels" (list $ $values.labels) | nindent 4 }}
spec:
  namespaceSelector: {any: true}
  selector:
    matchLabels:
      {{- toYaml (index . 3) | nindent 6 }}
  # The label of the pods' series with the name of their object.
  podTargetLabels: [mlop.dev/intent]
  podMetricsEndpoints:
    - port: {{ index . 4 }}
      path: /metrics
      {{- with $values.interval }}
      interval: {{ . }}
      {{- end }}
{{- end }}
