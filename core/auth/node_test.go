package auth_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/utils/ptr"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
)

// nodeObjects are a pod on node1 that refers to much, and what else belongs
// to nodes.
func nodeObjects(t *testing.T, s *apitest.Server) {
	p := pod("default", "p", "robot", "node1")
	p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "mine"}}},
		{Name: "c", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		{Name: "e", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}}}}}}},
		{Name: "j", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "projected"}}}}}}},
	}
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "gpu", ResourceClaimName: ptr.To("gpu")}}
	p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "env"}}}}
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "key"}, Key: "k"}}}}
	create(t, s, p)
	static := pod("default", "static", "", "node1")
	static.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	static.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "claimed-by-mirror"}}
	create(t, s, static)
	create(t, s, pod("default", "q", "robot", "node2"))

	create(t, s, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{"storage": resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"},
		ClaimRef: &corev1.ObjectReference{Namespace: "default", Name: "data"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "csi.example.com", VolumeHandle: "v",
			NodeStageSecretRef:         &corev1.SecretReference{Namespace: "kube-system", Name: "stage"},
			ControllerPublishSecretRef: &corev1.SecretReference{Namespace: "kube-system", Name: "controller"}}}}})
	create(t, s, &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "va"}, Spec: storagev1.VolumeAttachmentSpec{
		Attacher: "csi.example.com", NodeName: "node1", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To("pv")}}})
	create(t, s, &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "slice"}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "dra.example.com", NodeName: ptr.To("node1"), Pool: resourcev1.ResourcePool{Name: "pool", ResourceSliceCount: 1}}})
}

// TestNodeAuthorizer has a line a question: node, verb, group/resource[/sub],
// [namespace/]name or -, and the refusal, or nothing where it is allowed.
func TestNodeAuthorizer(t *testing.T) {
	s := apitest.Start(t)
	nodeObjects(t, s)
	n := auth.NewNode()
	node := func(name string) *auth.User {
		return &auth.User{Name: "system:node:" + name, Groups: []string{auth.GroupNodes}}
	}
	if d, _, _ := n.Authorize(t.Context(), auth.Attributes{User: node("node1"), Verb: "get", Resource: "nodes", Name: "node1"}); d != auth.NoOpinion {
		t.Error("the Node authorizer answers before it can read")
	}
	n.Use(s.Client)
	const none = "no relationship found between node"
	for _, line := range strings.Split(strings.TrimSpace(`
node1 get /secrets default/mine
node1 watch /secrets default/mine
node1 list /secrets default/pull
node1 get /secrets default/key
node1 get /secrets kube-system/stage
node1 get /secrets kube-system/controller : `+none+`
node2 get /secrets kube-system/stage : `+none+`
node2 get /secrets default/mine : `+none+`
node1 get /secrets default/yours : `+none+`
node1 get /secrets default/claimed-by-mirror : `+none+`
node1 get /secrets kube-system/mine : `+none+`
node1 list /secrets default/ : No Object name found
node1 list /secrets - : can only read namespaced object of this type
node1 update /secrets default/mine : can only read resources of this type
node1 watch /configmaps default/env
node1 get /configmaps default/projected
node1 update /configmaps default/env : can only read resources of this type
node1 get /persistentvolumeclaims default/data
node1 get /persistentvolumeclaims default/p-e
node1 list /persistentvolumeclaims default/data : can only get individual resources of this type
node1 patch /persistentvolumeclaims/status default/data
node1 get /persistentvolumeclaims/status default/data : can only get/update/patch this type
node2 get /persistentvolumeclaims default/data : `+none+`
node1 get /persistentvolumes pv
node2 get /persistentvolumes pv : `+none+`
node1 list /persistentvolumes - : can only get individual resources of this type
node1 get storage.k8s.io/volumeattachments va
node2 get storage.k8s.io/volumeattachments va : `+none+`
node1 get storage.k8s.io/volumeattachments none : `+none+`
node1 get resource.k8s.io/resourceclaims default/gpu
node2 get resource.k8s.io/resourceclaims default/gpu : `+none+`
node1 create /serviceaccounts/token default/robot
node2 create /serviceaccounts/token default/robot
node3 create /serviceaccounts/token default/robot : `+none+`
node1 create /serviceaccounts/token default/default : `+none+`
node1 get /serviceaccounts default/robot
node1 update /serviceaccounts default/robot : can only create tokens for individual service accounts
node1 get /nodes node1
node1 get /nodes node2 : node 'node1' cannot read 'node2', only its own Node object
node1 list /nodes - : node 'node1' cannot read all nodes, only its own Node object
node1 watch /nodes node1
node1 create /nodes -
node1 update /nodes/status node1
node1 delete /nodes node1 :
node1 get /nodes/proxy node1 :
node1 get /pods default/p
node1 get /pods default/q : `+none+`
node1 list /pods - : can only list/watch pods with spec.nodeName field selector
node1 list /pods - spec.nodeName=node1
node1 list /pods - spec.nodeName!=node1 : can only list/watch pods with spec.nodeName field selector
node1 watch /pods - spec.nodeName=node2 : can only list/watch pods with spec.nodeName field selector
node1 watch /pods default/p
node1 create /pods default/
node1 delete /pods default/p
node1 patch /pods/status default/p
node1 create /pods/eviction default/p
node1 create /pods/binding default/p :
node1 create apps/deployments default/ :
node1 get apps/deployments default/x :
node1 update coordination.k8s.io/leases kube-node-lease/node1
node1 create coordination.k8s.io/leases kube-node-lease/
node1 update coordination.k8s.io/leases kube-node-lease/node2 : can only access node lease with the same name as the requesting node
node1 update coordination.k8s.io/leases kube-system/node1 : can only access leases in the "kube-node-lease" system namespace
node1 list coordination.k8s.io/leases kube-node-lease/ : can only get, create, update, patch, or delete a node lease
node1 get storage.k8s.io/csinodes node1
node1 create storage.k8s.io/csinodes -
node1 patch storage.k8s.io/csinodes node2 : can only access CSINode with the same name as the requesting node
node1 list storage.k8s.io/csinodes - : can only get, create, update, patch, or delete a CSINode
node1 get resource.k8s.io/resourceslices slice
node2 get resource.k8s.io/resourceslices slice : `+none+`
node1 create resource.k8s.io/resourceslices -
node1 list resource.k8s.io/resourceslices - spec.nodeName=node1
node1 deletecollection resource.k8s.io/resourceslices - spec.nodeName=node2 : can only list/watch/deletecollection resourceslices with nodeName field selector
node1 create certificates.k8s.io/podcertificaterequests default/
node1 get certificates.k8s.io/podcertificaterequests default/x : `+none+`
node1 list certificates.k8s.io/podcertificaterequests - spec.nodeName=node1
node1 update certificates.k8s.io/podcertificaterequests default/x : nodes may not update podcertificaterequests
node1 update certificates.k8s.io/podcertificaterequests/status default/x : nodes may not access the status subresource of PodCertificateRequests
node1 list certificates.k8s.io/clustertrustbundles -
node1 create certificates.k8s.io/certificatesigningrequests -
node1 create authentication.k8s.io/tokenreviews -
node1 list /services -
node1 list node.k8s.io/runtimeclasses -`), "\n") {
		question, want, refused := strings.Cut(line, " :")
		w := strings.Fields(question)
		a := auth.Attributes{User: node(w[0]), Verb: w[1]}
		a.Group, a.Resource, _ = strings.Cut(w[2], "/")
		a.Resource, a.Subresource, _ = strings.Cut(a.Resource, "/")
		if namespace, name, ok := strings.Cut(w[3], "/"); ok {
			a.Namespace, a.Name = namespace, name
		} else if w[3] != "-" {
			a.Name = w[3]
		}
		if len(w) > 4 {
			sel, err := fields.ParseSelector(w[4])
			if err != nil {
				t.Fatal(err)
			}
			a.Fields = sel.Requirements()
		}
		d, reason, err := n.Authorize(t.Context(), a)
		if (d == auth.Allow) == refused || d == auth.Deny || err != nil || !strings.HasPrefix(reason, strings.TrimSpace(want)) {
			t.Errorf("%s\n\tis %v %q %v", line, d, reason, err)
		}
	}
	if d, _, _ := n.Authorize(t.Context(), auth.Attributes{User: &auth.User{Name: "system:node:node1"}, Verb: "get", Resource: "nodes", Name: "node1"}); d != auth.NoOpinion {
		t.Error("a name alone makes a node")
	}
	if _, err := n.Rules(node("node1"), "default"); err == nil {
		t.Error("a node's rules are said to be known")
	}
}
