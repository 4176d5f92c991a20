{{/* The operator's process. */}}
{{- define "mlop.deployment" -}}
{{- $namespaces := include "mlop.setting" (list . "watchNamespaces") | fromJsonArray -}}
{{- $kinds := list -}}
{{- range .Values.inputKinds -}}
{{- $kinds = append $kinds (printf "%s.%s.%s/%s" .kind .version .group .plural) -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Chart.Name }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
spec:
  replicas: {{ include "mlop.word" (list . "replicas" 1) }}
  selector:
    matchLabels:
      {{- include "mlop.selector" . | nindent 6 }}
  template:
    metadata:
      {{- include "mlop.podMetadata" (list . (include "mlop.chartLabels" .) "") | nindent 6 }}
    spec:
      serviceAccountName: {{ .Chart.Name }}
      {{- include "mlop.pod" . | nindent 6 }}
      {{- with include "mlop.spread" . | fromYamlArray }}
      topologySpreadConstraints:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: operator
          args:
            {{- with $namespaces }}
            - --namespaces={{ join "," . }}
            {{- end }}
            {{- with $kinds }}
            - --input-kinds={{ join "," . }}
            {{- end }}
            {{- with .Values.worker }}
            - --worker-image={{ include "mlop.image" (list $ .repository .digest) }}
            {{- end }}
            - --health-address=0.0.0.0:8081
            - --leader-elect=true
            - --log-level={{ include "mlop.word" (list . "logLevel" "info") }}
            - --log-format={{ include "mlop.word" (list . "logFormat" "json") }}
            {{- with (include "mlop.setting" (list . "otlp") | fromJson).endpoint }}
            - --otlp-endpoint={{ . }}
            {{- end }}
            {{- with include "mlop.setting" (list . "extraArgs") | fromJsonArray }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          env:
            - name: MLOP_LEASE_NAMESPACE
              valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
            - name: MLOP_POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- with include "mlop.setting" (list . "extraEnv") | fromJsonArray }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: health, containerPort: 8081}
          # A thread of its own answers; slowness of a busy node is no reason to restart a process that would start as slowly.
          livenessProbe:
            httpGet: {path: /livez, port: health}
            periodSeconds: 20
            timeoutSeconds: 10
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: health}
            periodSeconds: 2
            timeoutSeconds: 5
          {{- include "mlop.container" . | nindent 10 }}
{{- end }}

{{/*
Where replicas run, as a list. By default on different nodes if there are several. A constraint without a selector means the
operator's pods: one in `global` cannot name them.
*/}}
{{- define "mlop.spread" -}}
{{- $constraints := include "mlop.setting" (list . "topologySpreadConstraints") | fromJsonArray -}}
{{- $default := dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" -}}
{{- if and (not $constraints) (include "mlop.replicated" .) -}}
{{- $constraints = list $default -}}
{{- end -}}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "mlop.selector" . | fromYaml)) -}}
{{- range $constraints }}
- {{ toJson (merge . $selector) }}
{{- end }}
{{- end }}

{{/* Not empty if there is more than one replica. */}}
{{- define "mlop.replicated" -}}
{{- if gt (include "mlop.word" (list . "replicas" 1) | int) 1 }}true{{ end -}}
{{- end }}

{{/* An eviction leaves replicas. With one replica a budget would only stop node drains. */}}
{{- define "mlop.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .Chart.Name }}
  labels:
    {{- include "mlop.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "mlop.selector" . | nindent 6 }}
{{- end }}

{{/* The fields that the pods of the operator's program share. */}}
{{- define "mlop.pod" -}}
automountServiceAccountToken: true
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with include "mlop.word" (list . "priorityClassName" "") }}
priorityClassName: {{ . }}
{{- end }}
{{- range $name := list "imagePullSecrets" "tolerations" }}
{{- with include "mlop.setting" (list $ $name) | fromJsonArray }}
{{ $name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $name := list "nodeSelector" "affinity" }}
{{- with include "mlop.setting" (list $ $name) | fromJson }}
{{ $name }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The fields that their containers share. */}}
{{- define "mlop.container" -}}
image: {{ include "mlop.image" (list . .Values.image.repository .Values.image.digest) }}
imagePullPolicy: {{ include "mlop.pullPolicy" . }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}
