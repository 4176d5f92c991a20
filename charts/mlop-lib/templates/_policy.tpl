{{/*
Fails when another release has this operator for one of the same namespaces: each of them would refuse what the other
writes. Takes (list . namespaces). `helm template` asks no cluster, and finds no other release.
*/}}
{{- define "mlop.alone" -}}
{{- $context := index . 0 -}}
{{- $own := index . 1 | default list -}}
{{- $bindings := lookup "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicyBinding" "" "" -}}
{{- range $bindings.items -}}
{{- $name := dig "labels" "app.kubernetes.io/name" "" .metadata -}}
{{- if and (eq $name $context.Chart.Name) (ne .metadata.name (include "mlop.clusterName" $context)) -}}
{{- $other := list -}}
{{- range dig "matchResources" "namespaceSelector" "matchExpressions" list .spec -}}
{{- $other = .values -}}
{{- end -}}
{{- $both := $other -}}
{{- if not $other -}}
{{- $both = $own | default (list "every namespace") -}}
{{- else if $own -}}
{{- $both = list -}}
{{- range $own -}}
{{- if has . $other -}}
{{- $both = append $both . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $both -}}
{{- $release := printf "%s in namespace %s" (dig "annotations" "meta.helm.sh/release-name" "?" .metadata) (dig "annotations" "meta.helm.sh/release-namespace" "?" .metadata) -}}
{{- fail (printf "%s of the release %s already works for %s: give each release namespaces of its own in global.watchNamespaces" $name $release (join ", " $both)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Only the operator writes its runs and statuses, whatever rights others have. */}}
{{- define "mlop.policy" -}}
{{- $guarded := .Files.Get "files/guarded.yaml" | fromYaml -}}
{{- $namespaces := include "mlop.setting" (list . "watchNamespaces") | fromJsonArray -}}
{{- include "mlop.alone" (list . (ternary list $namespaces ($guarded.cluster | default false))) -}}
{{- $restorers := include "mlop.setting" (list . "restorers") | fromJson -}}
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
  variables:
    - name: writer
      expression: >-
        request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:{{ .Chart.Name }}'
    - name: restorer
      expression: >-
        request.userInfo.username in {{ toJson ($restorers.users | default list) }} ||
        request.userInfo.groups.exists(group, group in {{ toJson ($restorers.groups | default list) }})
    # A storage migration writes objects as they are; policy engines and people label and annotate them. The operator
    # decides by the spec, the status, the owners and the metadata under mlop.dev/.
    - name: labels
      expression: object.metadata.?labels.orValue({})
    - name: annotations
      expression: object.metadata.?annotations.orValue({})
    - name: oldLabels
      expression: oldObject.metadata.?labels.orValue({})
    - name: oldAnnotations
      expression: oldObject.metadata.?annotations.orValue({})
    - name: harmless
      expression: >-
        request.operation == 'UPDATE' &&
        object.?spec == oldObject.?spec && object.?status == oldObject.?status &&
        object.metadata.?ownerReferences == oldObject.metadata.?ownerReferences &&
        object.metadata.?finalizers == oldObject.metadata.?finalizers &&
        variables.labels.all(k, !k.startsWith('mlop.dev/') || variables.oldLabels[?k] == optional.of(variables.labels[k])) &&
        variables.oldLabels.all(k, !k.startsWith('mlop.dev/') || k in variables.labels) &&
        variables.annotations.all(k, !k.startsWith('mlop.dev/') ||
        variables.oldAnnotations[?k] == optional.of(variables.annotations[k])) &&
        variables.oldAnnotations.all(k, !k.startsWith('mlop.dev/') || k in variables.annotations)
    {{- with $guarded.answered }}
    # Another operator answers the runs in one field of their status.
    - name: status
      expression: object.?status.orValue({})
    - name: oldStatus
      expression: "request.operation == 'UPDATE' ? oldObject.?status.orValue({}) : {}"
    - name: answer
      expression: >-
        request.userInfo.username == 'system:serviceaccount:{{ $.Release.Namespace }}:{{ .by }}' &&
        request.resource.resource in {{ toJson $guarded.runs }} && request.subResource == 'status' &&
        variables.status.all(k, k == '{{ .field }}' || variables.oldStatus[?k] == optional.of(variables.status[k])) &&
        variables.oldStatus.all(k, k == '{{ .field }}' || k in variables.status)
    {{- end }}
  validations:
    - expression: variables.writer || variables.restorer || variables.harmless{{ if $guarded.answered }} || variables.answer{{ end }}
      message: >-
        {{ .Chart.Name }} alone writes the runs and statuses of its kinds. Edit the resource that they belong to. A restore from
        a backup needs its identity in the chart's value restorers.
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
