package nodelifecycle_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller/controllertest"
	"binnacle.io/core/controller/nodelifecycle"
)

func TestNodes(t *testing.T)    { controllertest.Run(t, "nodes", nodelifecycle.New()) }
func TestEviction(t *testing.T) { controllertest.Run(t, "eviction", nodelifecycle.NewTaintEviction()) }

// Each node gets the first free block; the range has an end.
func TestIPAM(t *testing.T) {
	ipam := nodelifecycle.NewIPAM(netip.MustParsePrefix("10.244.0.0/22"), 24)
	taken := func(blocks ...string) (out []client.Object) {
		for i, b := range blocks {
			out = append(out, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}, Spec: corev1.NodeSpec{PodCIDR: b, PodCIDRs: []string{b}}})
		}
		return append(out, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new"}})
	}
	for _, c := range []struct {
		taken []string
		want  string // "" for none
	}{
		{nil, "10.244.0.0/24"},
		{[]string{"10.244.0.0/24"}, "10.244.1.0/24"},
		{[]string{"10.244.0.0/24", "10.244.2.0/24"}, "10.244.1.0/24"},
		{[]string{"10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"}, ""},
	} {
		plan, err := ipam.Reconcile(context.Background(), controllertest.NewState(t, controllertest.Epoch, taken(c.taken...)...), client.Key{Name: "new"})
		switch {
		case c.want == "" && (err == nil || !strings.Contains(err.Error(), `node "new" a pod CIDR: all /24 blocks of 10.244.0.0/22 are taken`)):
			t.Errorf("taken %v: error %v", c.taken, err)
		case c.want != "" && (err != nil || !strings.Contains(plan.String(), fmt.Sprintf(`"podCIDR":%q`, c.want))):
			t.Errorf("taken %v: plan %s, error %v, want %s", c.taken, plan, err, c.want)
		}
	}
}
