{{/*
After an uninstall nobody is left to take the operator's finalizers off its objects, and their deletion would hang. This
Job does it. It runs when the operator and its permissions are gone, so that no finalizer is set again.

Its permissions are bound for the whole cluster also if the operator works in some namespaces only: a RoleBinding cannot be
created in a namespace that is gone or is being deleted, and Helm would give up the hooks of all others. They exist while
the hook runs, and the Job lists the operator's namespaces only.
*/}}
{{- define "mlop.finalizers" -}}
{{- $namespaces := include "mlop.setting" (list . "watchNamespaces") | fromJsonArray -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "mlop.finalizersName" . }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
  annotations:
    {{- include "mlop.hook" (list "post-delete" -1) | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "mlop.finalizersName" . }}.{{ .Release.Namespace }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
  annotations:
    {{- include "mlop.hook" (list "post-delete" -1) | nindent 4 }}
rules:
  {{- .Files.Get "files/finalizers.yaml" | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "mlop.finalizersName" . }}.{{ .Release.Namespace }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
  annotations:
    {{- include "mlop.hook" (list "post-delete" -1) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "mlop.finalizersName" . }}.{{ .Release.Namespace }}
subjects:
  - {kind: ServiceAccount, name: {{ include "mlop.finalizersName" . }}, namespace: {{ .Release.Namespace }}}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "mlop.finalizersName" . }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
  annotations:
    {{- include "mlop.hook" (list "post-delete" 0) | nindent 4 }}
spec:
  backoffLimit: 3
  # Helm waits for five minutes unless told otherwise.
  activeDeadlineSeconds: 240
  template:
    metadata:
      {{- include "mlop.podMetadata" (list . (include "mlop.hookLabels" (list . (include "mlop.finalizersName" .))) "") | nindent 6 }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ include "mlop.finalizersName" . }}
      {{- include "mlop.pod" . | nindent 6 }}
      containers:
        - name: finalizers
          args:
            - --release-finalizers
            {{- with $namespaces }}
            - --namespaces={{ join "," . }}
            {{- end }}
            - --log-level={{ include "mlop.word" (list . "logLevel" "info") }}
            - --log-format={{ include "mlop.word" (list . "logFormat" "json") }}
          {{- with include "mlop.setting" (list . "extraEnv") | fromJsonArray }}
          env:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- include "mlop.container" . | nindent 10 }}
{{- end }}

{{- define "mlop.finalizersName" -}}
{{ .Chart.Name }}-finalizers
{{- end }}
