package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	namespace = "demo"
	nodePort  = 30001 // of the guestbook's front end
	target    = 50    // percent, of the autoscaler in hpa.yaml

	system    = "kube-system"
	secret    = "binnacle-alerting"
	configKey = "alertmanager.yaml"
	rules     = "binnacle-demo-rules"

	ownerLabel = "app.kubernetes.io/managed-by"
	owner      = "binnacle-demo"

	// busy is the condition of the alert in rules.yaml.
	busy = `sum by (namespace) (rate(container_cpu_usage_seconds_total{namespace="demo", container="web"}[5s])) > 0.2`
)

// cluster is the node that the demo runs on.
type cluster struct {
	cfg  config
	api  kubernetes.Interface
	node string // its address

	madeNamespace, madeSecret, madeRules bool
}

func connect(ctx context.Context, cfg config) (*cluster, error) {
	if !exists(filepath.Join(cfg.examples, "guestbook")) {
		return nil, fmt.Errorf("cannot find the guestbook in %q: run this in the repository's folder, or set --examples", cfg.examples)
	}
	if !exists(cfg.kubectl) {
		return nil, fmt.Errorf("cannot find kubectl at %q: run make build, or set --kubectl", cfg.kubectl)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot use kubeconfig %q: %w; is binnacle up?", cfg.kubeconfig, err)
	}
	rest.Timeout = 10 * time.Second
	rest.QPS = -1 // it looks several times a second
	c := &cluster{cfg: cfg}
	if c.api, err = kubernetes.NewForConfig(rest); err != nil {
		return nil, err
	}
	nodes, err := c.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot reach the cluster: %w; is binnacle up?", err)
	}
	for _, n := range nodes.Items {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP && c.node == "" {
				c.node = a.Address
			}
		}
	}
	if c.node == "" {
		return nil, errors.New("no node of the cluster has an address: kubectl get nodes -o wide")
	}
	return c, nil
}

// kubectl runs one command.
func (c *cluster) kubectl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, c.cfg.kubectl, append([]string{"--kubeconfig", c.cfg.kubeconfig}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// routeAlerts gives alerting a configuration that leads to the receivers, and
// waits until it is in force.
func (c *cluster) routeAlerts(ctx context.Context, r *receivers) error {
	secrets := c.api.CoreV1().Secrets(system)
	old, err := secrets.Get(ctx, secret, metav1.GetOptions{})
	switch {
	case err == nil && old.Labels[ownerLabel] != owner:
		return fmt.Errorf("the Secret %s/%s is not the demo's: it would be replaced; run the demo where alerting is not configured", system, secret)
	case err == nil:
		err = secrets.Delete(ctx, secret, metav1.DeleteOptions{})
	case apierrors.IsNotFound(err):
		err = nil
	}
	if err != nil {
		return err
	}
	c.madeSecret = true
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secret, Labels: map[string]string{ownerLabel: owner}},
		StringData: map[string]string{configKey: r.config()},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(10 * time.Second); ; {
		var list []struct{ Name string }
		if err := getJSON(ctx, c.cfg.url+"/alertmanager/api/v2/receivers", &list); err != nil {
			return err
		}
		for _, have := range list {
			if have.Name == r.name {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("alerting does not take its configuration from the Secret %s/%s: %s", system, secret, c.refusal(ctx))
		case <-tick.C:
		}
	}
}

// refusal is what the Secret's events say.
func (c *cluster) refusal(ctx context.Context) string {
	list, err := c.api.CoreV1().Events(system).List(ctx, metav1.ListOptions{FieldSelector: "reason=AlertingRefused,involvedObject.name=" + secret})
	if err != nil || len(list.Items) == 0 {
		return "it has no event that says why"
	}
	return list.Items[len(list.Items)-1].Message
}

// apply does what a user would do.
func (c *cluster) apply(ctx context.Context) error {
	ns, err := c.api.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		ns = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{ownerLabel: owner}}}
		_, err = c.api.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	case err == nil && ns.Labels[ownerLabel] != owner:
		err = fmt.Errorf("the namespace %s is not the demo's: it would be deleted in the end", namespace)
	}
	if err != nil {
		return err
	}
	c.madeNamespace = true
	if err := c.kubectl(ctx, "-n", namespace, "apply", "-f", filepath.Join(c.cfg.examples, "guestbook")+string(filepath.Separator)); err != nil {
		if strings.Contains(err.Error(), "already allocated") {
			err = fmt.Errorf("node port %d belongs to another Service: delete that guestbook first\n%w", nodePort, err)
		}
		return err
	}
	if err := c.kubectl(ctx, "-n", namespace, "apply", "-f", filepath.Join(c.cfg.examples, "demo", "hpa.yaml")); err != nil {
		return err
	}
	c.madeRules = true
	return c.kubectl(ctx, "apply", "-f", filepath.Join(c.cfg.examples, "demo", "rules.yaml"))
}

// cleanUp takes away what was made. The route to the receivers goes in any case:
// they end with the demo.
func (c *cluster) cleanUp(ctx context.Context, line *timeline) error {
	var errs []error
	if c.madeSecret {
		errs = append(errs, c.kubectl(ctx, "-n", system, "delete", "secret", secret, "--ignore-not-found"))
	}
	if c.cfg.keep {
		if c.madeNamespace {
			fmt.Println()
			line.say("keep", "namespace %s and ConfigMap %s/%s stay: http://%s:%d", namespace, system, rules, c.node, nodePort)
			line.say("keep", "kubectl delete namespace %s; kubectl -n %s delete configmap %s", namespace, system, rules)
		}
		return errors.Join(errs...)
	}
	if c.madeRules {
		errs = append(errs, c.kubectl(ctx, "-n", system, "delete", "configmap", rules, "--ignore-not-found"))
	}
	if c.madeNamespace {
		errs = append(errs, c.kubectl(ctx, "delete", "namespace", namespace, "--timeout=90s"))
	}
	err := errors.Join(errs...)
	if err == nil && c.madeNamespace {
		fmt.Println()
		line.say("demo", "everything it made is gone again")
	}
	return err
}

// firstBusy is when the alert's condition first held, by the samples.
func (c *cluster) firstBusy(ctx context.Context, from, to time.Time) (time.Time, bool, error) {
	seconds := func(t time.Time) string { return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000) }
	q := url.Values{"query": {busy}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {"0.1"}}
	var answer struct {
		Data struct {
			Result []struct{ Values [][2]any }
		}
	}
	if err := getJSON(ctx, c.cfg.url+"/api/v1/query_range?"+q.Encode(), &answer); err != nil {
		return time.Time{}, false, err
	}
	for _, r := range answer.Data.Result {
		if at, ok := r.Values[0][0].(float64); ok {
			return time.UnixMilli(int64(at * 1000)), true, nil
		}
	}
	return time.Time{}, false, nil
}
