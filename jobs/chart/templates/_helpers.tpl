{{/* The image: a registry only where one is named, a digest before a tag. */}}
{{- define "audit.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "audit.container" -}}
image: {{ include "audit.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* An agent's: OpenShift's spc_t may connect to the sockets of the node. */}}
{{- define "audit.agentContainer" -}}
{{ include "audit.container" . }}
{{- if .Values.openshift }}
  seLinuxOptions: {type: spc_t}
{{- end }}
{{- end }}

{{- define "audit.driver" -}}
{app.kubernetes.io/name: ovn-audit, app.kubernetes.io/component: driver}
{{- end }}

{{- define "audit.viewer" -}}
{app.kubernetes.io/name: ovn-audit, app.kubernetes.io/component: viewer}
{{- end }}

{{- define "audit.agent" -}}
{app.kubernetes.io/name: ovn-audit, app.kubernetes.io/component: agent}
{{- end }}

{{/* Any user but root; OpenShift's restricted-v2 chooses one, and refuses any other. */}}
{{- define "audit.user" -}}
runAsNonRoot: true
{{- if not .Values.openshift }}
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The databases' sockets belong to root and nobody else may connect. */}}
{{- define "audit.root" -}}
runAsUser: 0
runAsGroup: 0
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "audit.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "audit.token" -}}
name: token
projected:
  sources:
    - serviceAccountToken: {path: token, expirationSeconds: {{ . }}}
    - configMap:
        name: kube-root-ca.crt
        items: [{key: ca.crt, path: ca.crt}]
    - downwardAPI:
        items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end }}

{{- define "audit.tokenMount" -}}
{name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}

{{- define "audit.ovnNamespace" -}}
{{ ternary "openshift-ovn-kubernetes" "ovn-kubernetes" .Values.openshift }}
{{- end }}

{{- define "audit.sockets" -}}
{{ ternary "/var/run/ovn-ic" "/var/run/openvswitch" .Values.openshift }}
{{- end }}

{{- define "audit.dnsPorts" -}}
- {protocol: UDP, port: 53}
- {protocol: TCP, port: 53}
- {protocol: UDP, port: 5353}
- {protocol: TCP, port: 5353}
{{- end }}

{{- define "audit.apiPorts" -}}
- {protocol: TCP, port: 443}
- {protocol: TCP, port: 6443}
{{- end }}

{{/* Pod Security has no level between `baseline`, which forbids every hostPath, and `privileged`. */}}
{{- define "audit.privilegedNamespace" -}}
apiVersion: v1
kind: Namespace
metadata:
  name: {{ . }}
  labels:
    pod-security.kubernetes.io/enforce: privileged
    pod-security.kubernetes.io/audit: restricted
    pod-security.kubernetes.io/warn: restricted
{{- end }}

{{/* hostPath, user 0 and spc_t: only `privileged` admits all three (docs/security.md). */}}
{{- define "audit.constraint" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .account }}-scc
  namespace: {{ .namespace }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: system:openshift:scc:privileged
subjects:
  - {kind: ServiceAccount, name: {{ .account }}, namespace: {{ .namespace }}}
{{- end }}
