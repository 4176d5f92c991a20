{{/* Everything that an operator's chart installs. */}}
{{- define "mlop.operator" -}}
{{- $network := include "mlop.setting" (list . "networkPolicy") | fromJson -}}
{{- $prometheus := include "mlop.setting" (list . "prometheus") | fromJson -}}
{{- $flow := include "mlop.setting" (list . "flowControl") | fromJson -}}
{{ include "mlop.deployment" . }}
---
{{ include "mlop.rights" . }}
---
{{ include "mlop.policy" . }}
{{- if include "mlop.replicated" . }}
---
{{ include "mlop.disruptionBudget" . }}
{{- end }}
{{- if $network.enabled }}
---
{{ include "mlop.networkPolicy" (list . .Chart.Name (include "mlop.selector" .) "") }}
{{- end }}
{{- if $flow.enabled }}
---
{{ include "mlop.flowControl" . }}
{{- end }}
{{- if ($prometheus.podMonitor | default dict).enabled }}
---
{{ include "mlop.podMonitor" . }}
{{- end }}
---
{{ include "mlop.test" . }}
{{- if $network.enabled }}
---
{{- $test := include "mlop.testName" . }}
{{ include "mlop.networkPolicy" (list . $test (include "mlop.hookLabels" (list . $test)) (include "mlop.hook" (list "test" -1))) }}
{{- end }}
{{- if .Files.Get "files/finalizers.yaml" }}
{{- $finalizers := include "mlop.finalizersName" . }}
---
{{ include "mlop.finalizers" . }}
{{- if $network.enabled }}
---
{{ include "mlop.networkPolicy" (list . $finalizers (include "mlop.hookLabels" (list . $finalizers)) (include "mlop.hook" (list "post-delete" -1))) }}
{{- end }}
{{- end }}
{{- end }}
