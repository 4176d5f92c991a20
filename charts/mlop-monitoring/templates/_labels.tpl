{{/* Labels of an object: the chart's, those of the values, and those by which others find it. Takes (list . labels). */}}
{{- define "mlop-monitoring.labels" -}}
{{- $context := index . 0 -}}
{{- $chart := dict
  "app.kubernetes.io/name" $context.Chart.Name
  "app.kubernetes.io/instance" $context.Release.Name
  "app.kubernetes.io/version" $context.Chart.AppVersion
  "app.kubernetes.io/part-of" "mlop"
  "app.kubernetes.io/managed-by" $context.Release.Service
  "helm.sh/chart" (printf "%s-%s" $context.Chart.Name $context.Chart.Version)
-}}
{{- toYaml (merge $chart (index . 1 | default dict) ($context.Values.commonLabels | default dict)) -}}
{{- end }}
