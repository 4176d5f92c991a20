{{/* Everything that an operator's chart installs. */}}
{{- define "mlop.operator" -}}
{{ include "mlop.deployment" . }}
---
{{ include "mlop.rights" . }}
---
{{ include "mlop.policy" . }}
{{- if .Files.Get "files/finalizers.yaml" }}
---
{{ include "mlop.finalizers" . }}
{{- end }}
{{- end }}
