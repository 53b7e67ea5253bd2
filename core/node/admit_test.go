package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestEnforceable(t *testing.T) {
	f := func(spec, want string) {
		t.Helper()
		p := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte(spec), p); err != nil {
			t.Fatal(err)
		}
		got := ""
		if f := enforceable(p); f != nil {
			got = f.Reason + ": " + f.Message
		}
		if got != want {
			t.Errorf("%s: %q, want %q", spec, got, want)
		}
	}
	const armor = "AppArmor: Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
	f("spec: {containers: [{name: c}]}", "")
	f("spec: {securityContext: {sysctls: [{name: net/ipv4/tcp_syncookies, value: '1'}]}}", "")
	f("spec: {securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}}", `SysctlForbidden: Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted`)
	f("spec: {hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.tcp_rmem, value: '1'}]}}", `SysctlForbidden: Pod was rejected: forbidden sysctl: "net.ipv4.tcp_rmem" not allowed with host net enabled`)
	f("spec: {hostIPC: true, securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]}}", `SysctlForbidden: Pod was rejected: forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host ipc enabled`)
	f("spec: {securityContext: {appArmorProfile: {type: Unconfined}}}", "")
	f("spec: {securityContext: {appArmorProfile: {type: RuntimeDefault}}}", armor)
	f("spec: {initContainers: [{name: c, securityContext: {appArmorProfile: {type: Localhost, localhostProfile: x}}}]}", armor)
	f("metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/c: localhost/x}}", armor)
}
