{{/* Names, labels and images. */}}

{{/* A cluster-wide object belongs to one installation: two of them, in two namespaces, must not share it. */}}
{{- define "mlop.clusterName" -}}
{{ .Chart.Name }}.{{ .Release.Namespace }}
{{- end }}

{{- define "mlop.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mlop.labels" -}}
{{ include "mlop.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mlop
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* A setting of this chart; one of the same name in `global` counts for all operators. Takes (list . name). */}}
{{- define "mlop.setting" -}}
{{- $context := index . 0 -}}
{{- $name := index . 1 -}}
{{- $global := $context.Values.global | default dict -}}
{{- get $global $name | default (get $context.Values $name) | toJson -}}
{{- end }}

{{/* The image of a repository. Takes (list . repository). */}}
{{- define "mlop.image" -}}
{{- $context := index . 0 -}}
{{- $global := ($context.Values.global | default dict).image | default dict -}}
{{- $image := merge (dict) $global $context.Values.image -}}
{{ $image.registry }}/{{ index . 1 }}:{{ $image.tag | default $context.Chart.AppVersion }}
{{- end }}

{{- define "mlop.pullPolicy" -}}
{{- $global := (.Values.global | default dict).image | default dict -}}
{{ $global.pullPolicy | default .Values.image.pullPolicy }}
{{- end }}
