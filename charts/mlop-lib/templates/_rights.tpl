{{/* What the operator may do, and where. */}}
{{- define "mlop.rights" -}}
{{- $context := . -}}
{{- $namespaces := include "mlop.setting" (list . "watchNamespaces") | fromJsonArray -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .Chart.Name }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
  {{- with (.Values.serviceAccount | default dict).annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "mlop.clusterName" . }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
rules:
  {{- .Files.Get "files/rights.yaml" | nindent 2 }}
  {{- /* An input is read once more before a run is created from it. */}}
  {{- $verbs := ternary "[get, list, watch]" "[list, watch]" (not (empty (.Files.Get "files/guarded.yaml" | fromYaml).runs)) }}
  {{- range .Values.inputKinds }}
  - apiGroups: [{{ .group | quote }}]
    resources: [{{ .plural | quote }}]
    verbs: {{ $verbs }}
  {{- end }}
  {{- $cluster := .Files.Get "files/cluster-rights.yaml" }}
  {{- if and $cluster (not $namespaces) }}
  {{- $cluster | nindent 2 }}
  {{- end }}
{{- if $namespaces }}
{{- range $namespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "mlop.clusterName" $context }}
  namespace: {{ . }}
  labels:
    {{- include "mlop.labels" $context | nindent 4 }}
{{ include "mlop.bound" (list $context (include "mlop.clusterName" $context)) }}
{{- end }}
{{- with $cluster }}
---
{{- /* Objects without a namespace need a binding for the cluster. */}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "mlop.clusterName" $context }}.cluster
  labels:
    {{- include "mlop.labels" $context | nindent 4 }}
rules:
  {{- . | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "mlop.clusterName" $context }}.cluster
  labels:
    {{- include "mlop.labels" $context | nindent 4 }}
{{ include "mlop.bound" (list $context (printf "%s.cluster" (include "mlop.clusterName" $context))) }}
{{- end }}
{{- else }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "mlop.clusterName" . }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
{{ include "mlop.bound" (list . (include "mlop.clusterName" .)) }}
{{- end }}
---
{{ include "mlop.lease" . }}
{{- end }}

{{/* Who gets the rights of a role. Takes (list . role). */}}
{{- define "mlop.bound" -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ index . 1 }}
subjects:
  - {{ include "mlop.subject" (index . 0) }}
{{- end }}

{{- define "mlop.subject" -}}
{kind: ServiceAccount, name: {{ .Chart.Name }}, namespace: {{ .Release.Namespace }}}
{{- end }}

{{/* The lease of the replica that leads. A right to create cannot name what is created. */}}
{{- define "mlop.lease" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .Chart.Name }}-lease
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
rules:
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [create]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    resourceNames: [{{ .Chart.Name }}]
    verbs: [get, update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .Chart.Name }}-lease
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .Chart.Name }}-lease
subjects:
  - {{ include "mlop.subject" . }}
{{- end }}
