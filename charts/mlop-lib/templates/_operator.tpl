{{/* Everything that an operator's chart installs. */}}
{{- define "mlop.operator" -}}
{{ include "mlop.deployment" . }}
---
{{ include "mlop.rights" . }}
---
{{ include "mlop.policy" . }}
{{- end }}
