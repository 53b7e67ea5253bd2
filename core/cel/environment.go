package cel

import (
	"fmt"

	"github.com/google/cel-go/cel"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// Variables says which variables an expression may use besides object,
// oldObject, request and namespaceObject.
type Variables struct {
	// Params is there where a policy has a paramKind.
	Params bool
	// Authorizer brings authorizer and authorizer.requestResource.
	Authorizer bool
	// Patches brings the types Object and JSONPatch and jsonpatch.escapeKey.
	Patches bool
}

// combinations is how many different Variables there are.
const combinations = 8

func (v Variables) index() int {
	i := 0
	for bit, set := range []bool{v.Params, v.Authorizer, v.Patches} {
		if set {
			i |= 1 << bit
		}
	}
	return i
}

func variablesAt(index int) Variables {
	return Variables{Params: index&1 != 0, Authorizer: index&2 != 0, Patches: index&4 != 0}
}

// newEnvironment declares v, and variables where a policy has its own.
func newEnvironment(v Variables, variables *apicel.DeclType) (*cel.Env, error) {
	base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).NewExpressionsEnv()
	request, namespace := requestType(), namespaceType()
	declared := []*apicel.DeclType{namespace, request}
	options := []cel.EnvOption{
		cel.Variable("object", cel.DynType),
		cel.Variable("oldObject", cel.DynType),
		cel.Variable("namespaceObject", namespace.CelType()),
		cel.Variable("request", request.CelType()),
	}
	if v.Params {
		options = append(options, cel.Variable("params", cel.DynType))
	}
	if v.Authorizer {
		options = append(options,
			cel.Variable("authorizer", library.AuthorizerType),
			cel.Variable("authorizer.requestResource", library.ResourceCheckType))
	}
	if variables != nil {
		options = append(options, cel.Variable("variables", variables.CelType()))
		declared = append(declared, variables)
	}
	provider := apicel.NewDeclTypeProvider(declared...)
	provider.SetRecognizeKeywordAsFieldName(true)
	types, err := provider.EnvOptions(base.CELTypeProvider())
	if err != nil {
		return nil, fmt.Errorf("cannot declare types of expressions with %+v: %w", v, err)
	}
	options = append(options, types...)
	if v.Patches {
		options = append(options, common.ResolverEnvOption(&mutation.DynamicTypeResolver{}), library.JSONPatch())
	}
	env, err := base.Extend(options...)
	if err != nil {
		return nil, fmt.Errorf("cannot make an environment for expressions with %+v: %w", v, err)
	}
	return env, nil
}

// members lists the fields of a type; all of them are always there but those
// whose name ends in a question mark.
type members map[string]*apicel.DeclType

func object(name string, m members) *apicel.DeclType {
	fields := make(map[string]*apicel.DeclField, len(m))
	for field, t := range m {
		required := true
		if field[len(field)-1] == '?' {
			field, required = field[:len(field)-1], false
		}
		fields[field] = apicel.NewDeclField(field, t, required, nil, nil)
	}
	return apicel.NewObjectType(name, fields)
}

func list(of *apicel.DeclType) *apicel.DeclType { return apicel.NewListType(of, -1) }

func mapOf(of *apicel.DeclType) *apicel.DeclType {
	return apicel.NewMapType(apicel.StringType, of, -1)
}

// requestType is an AdmissionRequest without its objects, which are variables
// of their own, and without its uid.
func requestType() *apicel.DeclType {
	text := apicel.StringType
	kind := object("kubernetes.GroupVersionKind", members{"group": text, "version": text, "kind": text})
	resource := object("kubernetes.GroupVersionResource", members{"group": text, "version": text, "resource": text})
	user := object("kubernetes.UserInfo", members{
		"username?": text, "uid?": text, "groups?": list(text), "extra?": mapOf(list(text)),
	})
	return object("kubernetes.AdmissionRequest", members{
		"kind": kind, "resource": resource, "subResource?": text,
		"requestKind": kind, "requestResource": resource, "requestSubResource?": text,
		"name": text, "namespace?": text, "operation": text, "userInfo": user,
		"dryRun?": apicel.BoolType, "options?": apicel.DynType,
	})
}

// namespaceType is a Namespace without its managed fields and owners.
func namespaceType() *apicel.DeclType {
	text, at := apicel.StringType, apicel.TimestampType
	metadata := object("kubernetes.NamespaceMetadata", members{
		"name": text, "generateName": text, "namespace": text, "labels": mapOf(text), "annotations": mapOf(text), "UID": text,
		"creationTimestamp": at, "deletionGracePeriodSeconds": apicel.IntType, "deletionTimestamp": at,
		"generation": apicel.IntType, "resourceVersion": text, "finalizers": list(text),
	})
	condition := object("kubernetes.NamespaceCondition", members{
		"status": text, "type": text, "lastTransitionTime": at, "message": text, "reason": text,
	})
	return object("kubernetes.Namespace", members{
		"metadata": metadata,
		"spec":     object("kubernetes.NamespaceSpec", members{"finalizers": list(text)}),
		"status":   object("kubernetes.NamespaceStatus", members{"conditions": list(condition), "phase": text}),
	})
}
