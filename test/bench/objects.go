package main

import (
	"fmt"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// pod is one of a web service that nothing schedules. With its status and what
// servers add it takes about 4 KB.
func pod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:        fmt.Sprintf("frontend-6c5d8f7b9c-%06d", i),
			Labels:      map[string]string{"app.kubernetes.io/name": "frontend", "pod-template-hash": "6c5d8f7b9c"},
			Annotations: map[string]string{"example.com/owner": strings.Repeat("team ", 60)},
		},
		Spec: corev1.PodSpec{
			SchedulerName:                "nothing",
			AutomountServiceAccountToken: ptr.To(false),
			Containers: []corev1.Container{{
				Name: "web", Image: "registry.example/frontend:2026.11.1", Args: []string{"--listen=:8080", "--log=info"},
				Env:   []corev1.EnvVar{{Name: "BACKEND", Value: "http://backend.default.svc.cluster.local:8080/items"}},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
				},
				VolumeMounts:   []corev1.VolumeMount{{Name: "config", MountPath: "/etc/frontend", ReadOnly: true}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")}}},
			}},
			Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "frontend"}}}}},
		},
	}
}

func podStatus() corev1.PodStatus {
	now := metav1.Now()
	s := corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &now}
	for _, t := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	s.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "web", Image: "registry.example/frontend:2026.11.1", Ready: true, Started: ptr.To(true),
		ImageID:     "registry.example/frontend@sha256:" + strings.Repeat("0f", 32),
		ContainerID: "containerd://" + strings.Repeat("1e", 32),
		State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
	}}
	return s
}

func configMap(i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("settings-%06d", i)},
		Data:       map[string]string{"serial": "0", "settings": strings.Repeat("workers = 4, timeout = 30s, level = info\n", 25)},
	}
}

func lease(i int) *coordinationv1.Lease {
	now := metav1.NowMicro()
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("holder-%06d", i)},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: ptr.To(fmt.Sprintf("holder-%06d", i)), LeaseDurationSeconds: ptr.To[int32](40), RenewTime: &now},
	}
}
