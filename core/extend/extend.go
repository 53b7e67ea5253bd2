package extend

import (
	"context"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

// CustomResourceDefinitions is the kind of that name, readable only.
func CustomResourceDefinitions() *kind.Kind {
	return &kind.Kind{
		Hub: apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"), Resource: "customresourcedefinitions",
		Singular: "customresourcedefinition", ShortNames: []string{"crd", "crds"}, Categories: []string{"api-extensions"},
		ClusterScoped: true, Virtual: true, Verbs: []string{"get", "list"},
		New:     func() kind.Object { return &apiextensionsv1.CustomResourceDefinition{} },
		NewList: func() runtime.Object { return &apiextensionsv1.CustomResourceDefinitionList{} },
	}
}

// None answers reads of a kind of which there are no objects.
type None struct{ client.Resource }

// Get refuses: there is no such object.
func (n None) Get(_ context.Context, key client.Key) (client.Object, error) {
	return nil, apierrors.NewNotFound(n.Resource, key.Name)
}

// List returns nothing.
func (n None) List(context.Context, string) ([]client.Object, error) { return nil, nil }
