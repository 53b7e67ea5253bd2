package serviceaccount

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

const (
	defaultAccount = "default"
	rootCA         = "kube-root-ca.crt"
	// What upstream writes on the ConfigMap.
	rootCADescription = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
)

// New returns the controller of default service accounts.
func New() controller.Controller {
	return controller.Controller{
		Name:   "service-account",
		Inputs: inputs("serviceaccounts", defaultAccount),
		Writes: []string{"serviceaccounts"},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			if !active(s, key.Name) {
				return p, nil
			}
			if _, ok := controller.Get[*corev1.ServiceAccount](s, key.Name, defaultAccount); !ok {
				p.Add(controller.Create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: key.Name, Name: defaultAccount}}))
			}
			return p, nil
		},
	}
}

// NewRootCA returns the controller that publishes the cluster's CA certificates
// (PEM) in every namespace.
func NewRootCA(pem string) controller.Controller {
	return controller.Controller{
		Name:    "root-ca-certificate-publisher",
		Account: "root-ca-cert-publisher",
		Inputs:  inputs("configmaps", rootCA),
		Writes:  []string{"configmaps named " + rootCA},
		Reconcile: func(_ context.Context, s controller.State, key client.Key) (p controller.Plan, err error) {
			if !active(s, key.Name) {
				return p, nil
			}
			have, ok := controller.Get[*corev1.ConfigMap](s, key.Name, rootCA)
			switch {
			case !ok:
				p.Add(controller.Create(&corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{
						Namespace: key.Name, Name: rootCA,
						Annotations: map[string]string{"kubernetes.io/description": rootCADescription},
					},
					Data: map[string]string{"ca.crt": pem},
				}))
			case have.Data["ca.crt"] != pem || len(have.Data) != 1 || have.Annotations["kubernetes.io/description"] != rootCADescription:
				next := have.DeepCopy()
				next.Data = map[string]string{"ca.crt": pem}
				next.BinaryData = nil
				if next.Annotations == nil {
					next.Annotations = map[string]string{}
				}
				next.Annotations["kubernetes.io/description"] = rootCADescription
				p.Add(controller.Update(next))
			}
			return p, nil
		},
	}
}

// inputs are namespaces and the one object each must have.
func inputs(resource, name string) []controller.Input {
	return []controller.Input{
		{Resource: client.Resource{Resource: "namespaces"}, Keys: controller.Self},
		{Resource: client.Resource{Resource: resource}, Keys: func(_ controller.State, o client.Object) []client.Key {
			if o.GetName() != name {
				return nil
			}
			return []client.Key{{Name: o.GetNamespace()}}
		}},
	}
}

func active(s controller.State, namespace string) bool {
	ns, ok := controller.Get[*corev1.Namespace](s, "", namespace)
	return ok && ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating
}
