package admission_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

func TestNodeRestriction(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	p := admission.NewNodeRestriction(c, nil)
	account := create(t, c, &corev1.ServiceAccount{ObjectMeta: named("default", "robot")})
	mine, theirs := pod("default", "mine"), pod("default", "theirs")
	mine.Spec.ServiceAccountName = "robot"
	mine.Spec.NodeName, theirs.Spec.NodeName = "node1", "node2"
	mine.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "t"}},
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "v", Audience: "vault"}}}}}}}
	mine, theirs = create(t, c, mine), create(t, c, theirs)
	node := func(name string, f func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
		if f != nil {
			f(n)
		}
		return n
	}
	stored := create(t, c, node("node1", nil))
	static := func(f func(*corev1.Pod)) *corev1.Pod {
		o := pod("default", "static-node1")
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node1", UID: stored.UID, Controller: ptr.To(true)}}
		o.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		o.Spec.NodeName = "node1"
		if f != nil {
			f(o)
		}
		return o
	}
	token := func(p *corev1.Pod) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{ObjectMeta: named("default", "robot"), Spec: authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}}}
	}
	claiming := mine.DeepCopy()
	claiming.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "gpu"}}
	relabelled := mine.DeepCopy()
	relabelled.Labels = map[string]string{"a": "b"}
	const (
		pods, nodes = "pods", "nodes"
		update      = admission.Update
	)
	for _, tc := range []struct {
		name     string
		op       admission.Operation
		r, sub   string
		now, old client.Object
		want     string
	}{
		{"own status", update, pods, "status", mine, mine, ""},
		{"another's status", update, pods, "status", theirs, theirs, `node "node1" can only update pod status for pods with spec.nodeName set to itself`},
		{"labels by status", update, pods, "status", relabelled, mine, "cannot update labels through pod status"},
		{"own pod's spec", update, pods, "", mine, mine, `unexpected operation "UPDATE", node "node1" can only create and delete mirror pods`},
		{"delete own", admission.Delete, pods, "", nil, mine, ""},
		{"delete another's", admission.Delete, pods, "", nil, theirs, "can only delete pods with spec.nodeName set to itself"},
		{"mirror", admission.Create, pods, "", static(nil), nil, ""},
		{"no mirror", admission.Create, pods, "", mine, nil, `node "node1" can only create mirror pods`},
		{"mirror elsewhere", admission.Create, pods, "", static(func(p *corev1.Pod) { p.Spec.NodeName = "node2" }), nil, "can only create pods with spec.nodeName set to itself"},
		{"mirror with secret", admission.Create, pods, "", static(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
		}), nil, "can not create pods that reference"},
		{"mirror without owner", admission.Create, pods, "", static(func(p *corev1.Pod) { p.OwnerReferences = nil }), nil, "can only create pods with an owner reference set to itself"},
		{"mirror of an earlier node", admission.Create, pods, "", static(func(p *corev1.Pod) { p.OwnerReferences[0].UID = "x" }), nil, "node node1 UID mismatch: expected x got"},
		{"mirror that is no controller's", admission.Create, pods, "", static(func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil }), nil, "with a controller owner reference set to itself"},
		{"mirror that holds its node", admission.Create, pods, "", static(func(p *corev1.Pod) { p.OwnerReferences[0].BlockOwnerDeletion = ptr.To(true) }), nil, "must not set blockOwnerDeletion on an owner reference"},
		{"mirror with account", admission.Create, pods, "", static(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "robot" }), nil, "can not create pods that reference serviceaccounts"},
		{"mirror with claim", admission.Create, pods, "", static(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "s"}}}}
		}), nil, "can not create pods that reference persistentvolumeclaims"},
		{"mirror with directory", admission.Create, pods, "", static(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc"}}}}
		}), nil, ""},
		{"pod log", admission.Create, pods, "log", mine, nil, `unexpected pod subresource "log", only 'status' and 'eviction' are allowed`},
		{"claims by status", update, pods, "status", claiming, mine, "cannot update resource claim statues"},
		{"own node", admission.Create, nodes, "", node("node1", nil), nil, ""},
		{"another node", admission.Create, nodes, "", node("node2", nil), nil, `node "node1" is not allowed to modify node "node2"`},
		{"restricted label", admission.Create, nodes, "", node("node1", func(n *corev1.Node) { n.Labels["node-restriction.kubernetes.io/x"] = "y" }), nil,
			"is not allowed to set the following labels: node-restriction.kubernetes.io/x"},
		{"role label", update, nodes, "", node("node1", func(n *corev1.Node) { n.Labels["node-role.kubernetes.io/control-plane"] = "" }), node("node1", nil), "is not allowed to modify labels"},
		{"reported labels", update, nodes, "", node("node1", func(n *corev1.Node) {
			n.Labels["kubernetes.io/hostname"], n.Labels["topology.kubernetes.io/zone"], n.Labels["example.com/x"] = "h", "z", "x"
		}), node("node1", nil), ""},
		{"taints", update, nodes, "", node("node1", nil), node("node1", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k"}} }), "is not allowed to modify taints"},
		{"status", update, nodes, "status", node("node1", nil), node("node1", nil), ""},
		{"delete itself", admission.Delete, nodes, "", nil, node("node1", nil), ""},
		{"token", admission.Create, "serviceaccounts", "token", token(mine), nil, ""},
		{"token for another's pod", admission.Create, "serviceaccounts", "token", token(theirs), nil, "node requested token bound to a pod scheduled on a different node"},
		{"token for a named audience", admission.Create, "serviceaccounts", "token", audiences(token(mine), "vault"), nil, ""},
		{"token for another audience", admission.Create, "serviceaccounts", "token", audiences(token(mine), "bank"), nil, `audience "bank" not found in pod spec volume, system:node:node1 is not authorized to request tokens for this audience`},
		{"token for two audiences", admission.Create, "serviceaccounts", "token", audiences(token(mine), "vault", ""), nil, "node may only request 0 or 1 audiences"},
		{"free token", admission.Create, "serviceaccounts", "token", &authenticationv1.TokenRequest{ObjectMeta: named("default", "robot")}, nil, "node requested token not bound to a pod"},
	} {
		a := &admission.Attributes{Op: tc.op, Resource: client.Resource{Resource: tc.r}, Subresource: tc.sub, Object: tc.now, Old: tc.old,
			User: &auth.User{Name: "system:node:node1", Groups: []string{auth.GroupNodes}}}
		if tc.now != nil {
			a.Key = client.KeyOf(tc.now)
		} else {
			a.Key = client.KeyOf(tc.old)
		}
		err := admit(t, p, a)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		refused(t, tc.name, err, 403, tc.want)
		a.User = &auth.User{Name: "alice"}
		if err := admit(t, p, a); err != nil {
			t.Errorf("%s, not by a node: %v", tc.name, err)
		}
	}
	byNode := func(o, old client.Object, sub string) error {
		a := attributes(t, c, o, old)
		a.Subresource = sub
		a.User = &auth.User{Name: "system:node:node1", Groups: []string{auth.GroupNodes}}
		return admit(t, p, a)
	}
	refused(t, "lease", byNode(&coordinationv1.Lease{ObjectMeta: named("kube-node-lease", "node2")}, nil, ""), 403, "can only access node lease with the same name as the requesting node")
	slice := func(node string) *resourcev1.ResourceSlice {
		return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourcev1.ResourceSliceSpec{NodeName: &node}}
	}
	refused(t, "slice", byNode(slice("node2"), nil, ""), 403, "can only create ResourceSlice with the same NodeName as the requesting node")
	if err := byNode(slice("node1"), nil, ""); err != nil {
		t.Error(err)
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: named("default", "c")}
	grown := claim.DeepCopy()
	grown.Status.Capacity = corev1.ResourceList{"storage": resource.MustParse("2Gi")}
	bound := claim.DeepCopy()
	bound.Status.Phase = corev1.ClaimBound
	if err := byNode(grown, claim, "status"); err != nil {
		t.Error(err)
	}
	refused(t, "claim's phase", byNode(bound, claim, "status"), 403, "is not allowed to update fields other than status.quantity and status.conditions")
	refused(t, "claim", byNode(claim, claim, ""), 403, "may only update PVC status")
	req := func(signer, name string) *certificatesv1.CertificateSigningRequest {
		return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "csr"}, Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: signer, Request: certificateRequest(t, name)}}
	}
	refused(t, "another node's certificate", byNode(req(certificatesv1.KubeletServingSignerName, "system:node:node2"), nil, ""), 403, "can only create a node CSR with CN=system:node:node1")
	for _, ok := range []*certificatesv1.CertificateSigningRequest{req(certificatesv1.KubeAPIServerClientKubeletSignerName, "system:node:node1"), req("example.com/x", "anything")} {
		if err := byNode(ok, nil, ""); err != nil {
			t.Error(err)
		}
	}
	pcr := func(f func(*certificatesv1.PodCertificateRequestSpec)) *certificatesv1.PodCertificateRequest {
		r := &certificatesv1.PodCertificateRequest{ObjectMeta: named("default", "r"), Spec: certificatesv1.PodCertificateRequestSpec{
			NodeName: "node1", NodeUID: stored.UID, PodName: "mine", PodUID: mine.UID, ServiceAccountName: "robot", ServiceAccountUID: account.UID}}
		f(&r.Spec)
		return r
	}
	for want, f := range map[string]func(*certificatesv1.PodCertificateRequestSpec){
		"": func(*certificatesv1.PodCertificateRequestSpec) {},
		`which is not the requesting node "node1"`: func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeName = "node2" },
		"is not running on node":                   func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName, s.PodUID = "theirs", theirs.UID },
		"differs from running pod":                 func(s *certificatesv1.PodCertificateRequestSpec) { s.PodUID = "x" },
		"that differs from running pod":            func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountName = "other" },
		"differs from the running service account": func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountUID = "x" },
	} {
		if err := byNode(pcr(f), nil, ""); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func certificateRequest(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func audiences(r *authenticationv1.TokenRequest, list ...string) *authenticationv1.TokenRequest {
	r.Spec.Audiences = list
	return r
}

func TestRBACEscalation(t *testing.T) {
	rbac := auth.NewRBAC()
	p := admission.NewRBACEscalation(rbac, rbac)
	role := func(verb string) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: named("default", "r"), Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{verb}}}}
	}
	a := func(now, old client.Object, groups ...string) *admission.Attributes {
		x := &admission.Attributes{Op: admission.Create, Resource: client.Resource{Group: rbacv1.GroupName, Resource: "roles"},
			Key: client.KeyOf(now), Object: now, User: &auth.User{Name: "alice", Groups: groups}}
		if old != nil {
			x.Op, x.Old = admission.Update, old
		}
		return x
	}
	refused(t, "create", admit(t, p, a(role("get"), nil)), 403, `user "alice" (groups=[]) is attempting to grant RBAC permissions not currently held`)
	refused(t, "update", admit(t, p, a(role("delete"), role("get"))), 403, "attempting to grant")
	relabelled := role("get")
	relabelled.Labels = map[string]string{"a": "b"}
	if err := admit(t, p, a(relabelled, role("get"))); err != nil {
		t.Errorf("labels: %v", err)
	}
	if err := admit(t, p, a(role("get"), nil, auth.GroupMasters)); err != nil {
		t.Errorf("master: %v", err)
	}
}

// TestNodeDeletesUnseen: what cannot be looked at is not the node's.
func TestNodeDeletesUnseen(t *testing.T) {
	err := admission.NewNodeRestriction(nil, nil).Admit(t.Context(), &admission.Attributes{
		User: &auth.User{Name: "system:node:node1", Groups: []string{auth.GroupNodes}}, Op: admission.Delete,
		Resource: client.Resource{Resource: "pods"}, Key: client.Key{Namespace: "default", Name: "p"},
	})
	if err == nil || !strings.Contains(err.Error(), "can only delete pods with spec.nodeName set to itself") {
		t.Error(err)
	}
}
