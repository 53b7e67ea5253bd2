package auth

import (
	"context"
	"fmt"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func BenchmarkAuthorize(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("bindings=%d", n), func(b *testing.B) {
			z := NewRBAC()
			z.clusterRoleTable().put(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: rules("get,list on -:pods")})
			put := z.bindingTable().put
			for i := range n {
				put(&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("n%d", i/10), Name: fmt.Sprintf("b%d", i)},
					RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: fmt.Sprintf("u%d", i)}}})
			}
			a := Attributes{User: &User{Name: "u7", Groups: []string{"a", "b", GroupAuthenticated}}, Verb: "get", Resource: "pods", Namespace: "n0"}
			b.ReportAllocs()
			for b.Loop() {
				if d, _, _ := z.Authorize(context.Background(), a); d != Allow {
					b.Fatal("not allowed")
				}
			}
		})
	}
}
