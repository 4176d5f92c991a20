{{/* Whoever may do everything may still not write what this operator answers for: its runs and its statuses. */}}
{{- define "mlop.policy" -}}
{{- $guarded := .Files.Get "files/guarded.yaml" | fromYaml -}}
{{- $namespaces := include "mlop.setting" (list . "watchNamespaces") | fromJsonArray -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ include "mlop.clusterName" . }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      {{- with $guarded.runs }}
      - apiGroups: [mlop.dev]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE]
        resources: {{ toJson . }}
      {{- end }}
      - apiGroups: [mlop.dev]
        apiVersions: ["*"]
        operations: [UPDATE]
        resources: {{ toJson $guarded.statuses }}
  matchConditions:
    # It takes itself out of the owner references and finalizers of what it deletes.
    - name: not-the-garbage-collector
      expression: >-
        !(request.userInfo.username in
        ['system:serviceaccount:kube-system:generic-garbage-collector', 'system:kube-controller-manager'])
  validations:
    - expression: request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:{{ .Chart.Name }}'
      message: Runs and statuses of mlop.dev are written by {{ .Chart.Name }} only. Edit the resource that they belong to.
      reason: Forbidden
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "mlop.clusterName" . }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
spec:
  policyName: {{ include "mlop.clusterName" . }}
  validationActions: [Deny]
  {{- with $namespaces }}
  matchResources:
    namespaceSelector:
      matchExpressions:
        - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
  {{- end }}
{{- end }}
