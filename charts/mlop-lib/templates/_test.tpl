{{/*
What `helm test` runs: the operator's program waits until the operator's Deployment is ready, a process leads, and the kinds
are served. It may read these two objects; every service account may ask which kinds are served.
*/}}
{{- define "mlop.test" -}}
{{- $name := include "mlop.testName" . -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
  annotations:
    {{- include "mlop.hook" (list "test" -1) | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
  annotations:
    {{- include "mlop.hook" (list "test" -1) | nindent 4 }}
rules:
  - apiGroups: [apps]
    resources: [deployments]
    resourceNames: [{{ .Chart.Name }}]
    verbs: [get]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    resourceNames: [{{ .Chart.Name }}]
    verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
  annotations:
    {{- include "mlop.hook" (list "test" -1) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - {kind: ServiceAccount, name: {{ $name }}, namespace: {{ .Release.Namespace }}}
---
apiVersion: v1
kind: Pod
metadata:
  name: {{ $name }}
  {{- include "mlop.podMetadata" (list . (include "mlop.hookLabels" (list . $name)) (include "mlop.hook" (list "test" 0))) | nindent 2 }}
spec:
  restartPolicy: Never
  # Helm waits for five minutes unless told otherwise.
  activeDeadlineSeconds: 240
  serviceAccountName: {{ $name }}
  {{- include "mlop.pod" . | nindent 2 }}
  containers:
    - name: test
      args:
        - --check-installation
        - --log-level={{ include "mlop.word" (list . "logLevel" "info") }}
        - --log-format={{ include "mlop.word" (list . "logFormat" "json") }}
      env:
        - name: MLOP_LEASE_NAMESPACE
          valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
        {{- with include "mlop.setting" (list . "extraEnv") | fromJsonArray }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- include "mlop.container" . | nindent 6 }}
{{- end }}

{{- define "mlop.testName" -}}
{{ .Chart.Name }}-test
{{- end }}
