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
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels:
      {{- include "mlop.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "mlop.labels" . | nindent 8 }}
    spec:
      serviceAccountName: {{ .Chart.Name }}
      {{- include "mlop.pod" . | nindent 6 }}
      containers:
        - name: operator
          args:
            {{- with $namespaces }}
            - --namespaces={{ join "," . }}
            {{- end }}
            {{- with $kinds }}
            - --input-kinds={{ join "," . }}
            {{- end }}
            - --worker-image={{ include "mlop.image" (list . .Values.worker.repository) }}
            - --health-address=0.0.0.0:8081
            - --leader-elect=true
            - --log-level={{ include "mlop.setting" (list . "logLevel") | trimAll "\"" }}
          env:
            - name: MLOP_LEASE_NAMESPACE
              valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
            - name: MLOP_POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
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

{{/* The fields that the pods of the operator's program share. */}}
{{- define "mlop.pod" -}}
automountServiceAccountToken: true
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The fields that their containers share. */}}
{{- define "mlop.container" -}}
image: {{ include "mlop.image" (list . .Values.image.repository) }}
imagePullPolicy: {{ include "mlop.pullPolicy" . }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}
