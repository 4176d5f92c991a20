{{/* Objects that Helm makes at one point of the release's life. */}}

{{/*
The annotations of a hook. Takes (list event weight). Helm deletes what has succeeded, also when a later hook fails; what has
failed stays with its logs until the next time.
*/}}
{{- define "mlop.hook" -}}
helm.sh/hook: {{ index . 0 }}
helm.sh/hook-weight: {{ index . 1 | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* The labels of a hook's pod, which no selector of the operator's own matches. Takes (list . name). */}}
{{- define "mlop.hookLabels" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/part-of: mlop
{{- end }}
