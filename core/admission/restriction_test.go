package admission_test

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/admission"
	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
	"binnacle.io/core/client"
)

func TestNodeRestriction(t *testing.T) {
	s := apitest.Start(t)
	c := s.Client
	p := admission.NewNodeRestriction(c)
	mine, theirs := pod("default", "mine"), pod("default", "theirs")
	mine.Spec.NodeName, theirs.Spec.NodeName = "node1", "node2"
	mine, theirs = create(t, c, mine), create(t, c, theirs)
	node := func(name string, f func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
		if f != nil {
			f(n)
		}
		return n
	}
	static := func(f func(*corev1.Pod)) *corev1.Pod {
		o := pod("default", "static-node1")
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
		{"own pod's spec", update, pods, "", mine, mine, "node cannot perform this operation"},
		{"delete own", admission.Delete, pods, "", nil, mine, ""},
		{"delete another's", admission.Delete, pods, "", nil, theirs, "can only delete pods with spec.nodeName set to itself"},
		{"mirror", admission.Create, pods, "", static(nil), nil, ""},
		{"no mirror", admission.Create, pods, "", mine, nil, `node "node1" can only create mirror pods`},
		{"mirror elsewhere", admission.Create, pods, "", static(func(p *corev1.Pod) { p.Spec.NodeName = "node2" }), nil, "can only create pods with spec.nodeName set to itself"},
		{"mirror with secret", admission.Create, pods, "", static(func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
		}), nil, "can not create pods that reference"},
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
		{"delete itself", admission.Delete, nodes, "", nil, node("node1", nil), "is not allowed to delete itself"},
		{"token", admission.Create, "serviceaccounts", "token", token(mine), nil, ""},
		{"token for another's pod", admission.Create, "serviceaccounts", "token", token(theirs), nil, "node requested token bound to a pod scheduled on a different node"},
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
	lease := &coordinationv1.Lease{ObjectMeta: named("kube-node-lease", "node2")}
	a := attributes(t, c, lease, nil)
	a.User = &auth.User{Name: "system:node:node1", Groups: []string{auth.GroupNodes}}
	refused(t, "lease", admit(t, p, a), 403, "can only access node lease with the same name as the requesting node")
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
