{{/* Names, labels, settings and images. */}}

{{/* A cluster-wide object belongs to one installation: two of them, in two namespaces, must not share it. */}}
{{- define "mlop.clusterName" -}}
{{ .Chart.Name }}.{{ .Release.Namespace }}
{{- end }}

{{- define "mlop.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of every object. Those of the user do not replace the chart's: selectors depend on them. */}}
{{- define "mlop.labels" -}}
{{- $common := include "mlop.setting" (list . "commonLabels") | fromJson -}}
{{- toYaml (merge (include "mlop.chartLabels" . | fromYaml) $common) -}}
{{- end }}

{{- define "mlop.chartLabels" -}}
{{ include "mlop.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mlop
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Labels and annotations of a pod. Takes (list . labels-as-YAML annotations-as-YAML). */}}
{{- define "mlop.podMetadata" -}}
{{- $context := index . 0 -}}
{{- $labels := index . 1 | fromYaml -}}
{{- $pod := include "mlop.setting" (list $context "podLabels") | fromJson -}}
{{- $common := include "mlop.setting" (list $context "commonLabels") | fromJson -}}
labels:
  {{- toYaml (merge $labels $pod $common) | nindent 2 }}
{{- with merge (index . 2 | fromYaml) (include "mlop.setting" (list $context "podAnnotations") | fromJson) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
A setting as JSON. That of the chart comes before that of the same name in `global`, which counts for all operators; in a map
this holds for each key. What neither has is null. Takes (list . name).
*/}}
{{- define "mlop.setting" -}}
{{- $context := index . 0 -}}
{{- $own := get $context.Values (index . 1) -}}
{{- $global := get ($context.Values.global | default dict) (index . 1) -}}
{{- if and (kindIs "map" $own) (kindIs "map" $global) -}}
{{- $own = merge (deepCopy $own) (deepCopy $global) -}}
{{- end -}}
{{- $own | default $global | default nil | toJson -}}
{{- end }}

{{/* A setting that is one word, with its default. Takes (list . name default). Zero is a value. */}}
{{- define "mlop.word" -}}
{{- $context := index . 0 -}}
{{- $global := $context.Values.global | default dict -}}
{{- $found := without (list (get $context.Values (index . 1)) (get $global (index . 1))) nil "" -}}
{{- append $found (index . 2) | first -}}
{{- end }}

{{/* The image of a repository. Takes (list . repository digest). */}}
{{- define "mlop.image" -}}
{{- $context := index . 0 -}}
{{- $image := include "mlop.setting" (list $context "image") | fromJson -}}
{{ $image.registry | default "mlop.local" }}/{{ index . 1 }}
{{- if index . 2 }}@{{ index . 2 }}{{ else }}:{{ $image.tag | default $context.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "mlop.pullPolicy" -}}
{{- $image := include "mlop.setting" (list . "image") | fromJson -}}
{{ $image.pullPolicy | default "IfNotPresent" }}
{{- end }}
