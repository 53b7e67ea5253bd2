package openapi

import (
	"strings"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"binnacle.io/core/api/openapi/markers"
)

// info names the API whose description this is.
func info() *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: "1.37"}}
}

const bearer = "BearerToken"

// describe makes a document in a media type.
func describe(scheme *runtime.Scheme, path, media string, c content) ([]byte, error) {
	types, err := markers.Types()
	if err != nil {
		return nil, err
	}
	if path == v2Path {
		return describeV2(scheme, types, media, c)
	}
	return describeV3(scheme, types, path, media, c)
}

// routes returns the routes of the content; what they refer to is in d.
func routes(d *definitions, scheme *runtime.Scheme, c content) container {
	var out container
	for _, p := range c.paths {
		out = append(out, discoveryRoute(d, p))
	}
	for _, m := range c.resources {
		out = append(out, routesOf(d, scheme, m)...)
	}
	return out
}

// namer gives definitions the kinds for which they stand. Types that every
// group version has (DeleteOptions) only get the kinds that shared allows.
func namer(scheme *runtime.Scheme, shared func(group, version string) bool) func(string) (string, spec.Extensions) {
	kinds := kindsOf(scheme)
	return func(name string) (string, spec.Extensions) {
		var list []any
		for _, gvk := range kinds[name] {
			if !strings.HasPrefix(name, "io.k8s.apimachinery.pkg.apis.meta.v1.") || shared(gvk.Group, gvk.Version) {
				list = append(list, gvkMap(gvk))
			}
		}
		if len(list) == 0 {
			return name, nil
		}
		return name, spec.Extensions{"x-kubernetes-group-version-kind": list}
	}
}

func describeV2(scheme *runtime.Scheme, types map[string]markers.Type, media string, c content) ([]byte, error) {
	d := &definitions{types: types, out: map[string]common.OpenAPIDefinition{}, ref: func(name string) spec.Ref {
		return spec.MustCreateRef("#/definitions/" + common.EscapeJsonPointer(name))
	}}
	all := routes(d, scheme, c)
	swagger, err := builder.BuildOpenAPISpecFromRoutes([]common.RouteContainer{all}, &common.Config{
		ProtocolList: []string{"https"}, Info: info(), GetDefinitionName: namer(scheme, func(string, string) bool { return true }),
		GetDefinitions:                 func(common.ReferenceCallback) map[string]common.OpenAPIDefinition { return d.out },
		GetOperationIDAndTagsFromRoute: operationID,
		CommonResponses:                map[int]spec.Response{401: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}}},
		SecurityDefinitions: &spec.SecurityDefinitions{bearer: &spec.SecurityScheme{SecuritySchemeProps: spec.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
		}}},
		DefaultSecurity: []map[string][]string{{bearer: {}}},
	})
	if err != nil {
		return nil, err
	}
	b, err := swagger.MarshalJSON()
	if err != nil || media == mediaJSON {
		return b, err
	}
	doc, err := openapi_v2.ParseDocument(b)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(doc)
}

func describeV3(scheme *runtime.Scheme, types map[string]markers.Type, path, media string, c content) ([]byte, error) {
	d := &definitions{types: types, out: map[string]common.OpenAPIDefinition{}, defaults: true, ref: func(name string) spec.Ref {
		return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(name))
	}}
	all := routes(d, scheme, c)
	described, err := builder3.BuildOpenAPISpecFromRoutes([]common.RouteContainer{all}, &common.OpenAPIV3Config{
		Info: info(), Definitions: d.out, GetOperationIDAndTagsFromRoute: operationID,
		GetDefinitionName: namer(scheme, func(group, version string) bool {
			return group == "" && version == "v1" || path == "apis/"+group+"/"+version
		}),
		CommonResponses: map[int]*spec3.Response{401: {ResponseProps: spec3.ResponseProps{Description: "Unauthorized"}}},
		SecuritySchemes: spec3.SecuritySchemes{bearer: &spec3.SecurityScheme{SecuritySchemeProps: spec3.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
		}}},
	})
	if err != nil {
		return nil, err
	}
	b, err := described.MarshalJSON()
	if err != nil || media == mediaJSON {
		return b, err
	}
	doc, err := openapi_v3.ParseDocument(b)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(doc)
}
