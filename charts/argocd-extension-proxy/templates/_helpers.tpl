{{- define "proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "proxy.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "proxy.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "proxy.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "proxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "proxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "proxy.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "proxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: extension-proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "proxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "proxy.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "proxy.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{- define "proxy.portName" -}}
{{- if .Values.service.servicePortName }}{{ .Values.service.servicePortName }}{{ else if .Values.tls.secretName }}https{{ else }}http{{ end }}
{{- end }}

{{/* Whether one of a list of namespaces is a pattern: "true" or nothing. */}}
{{- define "proxy.hasPattern" -}}
{{- range . }}{{- if regexMatch "[^a-z0-9-]" . }}true{{ end }}{{- end }}
{{- end }}

{{/* Metadata of an object of its own namespace: name, namespace, labels. */}}
{{- define "proxy.metadata" -}}
name: {{ include "proxy.fullname" . }}
namespace: {{ include "proxy.namespace" . }}
labels: {{- include "proxy.labels" . | nindent 2 }}
{{- end }}

{{/* The one subject of every binding. */}}
{{- define "proxy.subjects" -}}
subjects:
- kind: ServiceAccount
  name: {{ include "proxy.serviceAccountName" . }}
  namespace: {{ include "proxy.namespace" . }}
{{- end }}
