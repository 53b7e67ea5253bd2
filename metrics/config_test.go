package metrics

import "testing"

func TestInstance(t *testing.T) {
	c := Config{Node: "n1", Address: "192.0.2.1", Ports: map[string]int{"apiserver": 26443}}
	for job, want := range map[string]string{
		"apiserver": "192.0.2.1:26443", "kubelet": "192.0.2.1:10250", "node-exporter": "n1", "binnacle-ui": "192.0.2.1:9090",
	} {
		if got := c.instance(job); got != want {
			t.Errorf("instance of %s is %q, want %q", job, got, want)
		}
	}
}
