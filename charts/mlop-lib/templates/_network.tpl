{{/*
All connections of the pods with these labels are denied but those to the API server and, for an operator, those to its
probes and metrics and from it to the collector of spans, if there is one. An operator finds the API server by the variable
KUBERNETES_SERVICE_HOST; only the name of a collector needs DNS.
Takes (list . name labels-as-YAML annotations-as-YAML).
*/}}
{{- define "mlop.networkPolicy" -}}
{{- $context := index . 0 -}}
{{- $policy := include "mlop.setting" (list $context "networkPolicy") | fromJson -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ index . 1 }}
  labels:
    {{- include "mlop.labels" $context | nindent 4 }}
  {{- with index . 3 }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- index . 2 | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- if eq (index . 1) $context.Chart.Name }}
  ingress:
    - ports:
        - {protocol: TCP, port: health}
      {{- with $policy.metricsFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
  {{- end }}
  egress:
    - ports:
        {{- range $policy.apiServerPorts | default (list 443 6443) }}
        - {protocol: TCP, port: {{ . }}}
        {{- end }}
      {{- with $policy.apiServer }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with $policy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- $otlp := include "mlop.setting" (list $context "otlp") | fromJson -}}
    {{- if and $otlp.endpoint (eq (index . 1) $context.Chart.Name) }}
    - ports:
        - {protocol: TCP, port: {{ regexFind ":[0-9]+$" (urlParse $otlp.endpoint).host | trimPrefix ":" | default "80" }}}
      {{- with $otlp.collector }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    - ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
    {{- end }}
{{- end }}

{{/* A share of the API server's capacity: requests of users' pods and of other operators do not delay this operator. */}}
{{- define "mlop.flowControl" -}}
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata:
  name: {{ include "mlop.clusterName" . }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: 10
    # Others may use what the operator does not.
    lendablePercent: 90
    limitResponse:
      type: Queue
      # More than the 64 requests that each replica has at the same time.
      queuing: {queues: 1, handSize: 1, queueLengthLimit: 1000}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata:
  name: {{ include "mlop.clusterName" . }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
spec:
  priorityLevelConfiguration:
    name: {{ include "mlop.clusterName" . }}
  # Before the server's own schema for all service accounts, which has 9000.
  matchingPrecedence: 1000
  rules:
    - subjects:
        - kind: ServiceAccount
          serviceAccount: {name: {{ .Chart.Name }}, namespace: {{ .Release.Namespace }}}
      resourceRules:
        - apiGroups: ["*"]
          resources: ["*"]
          verbs: ["*"]
          namespaces: ["*"]
          clusterScope: true
{{- end }}
