package auth_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/api/apitest"
	"binnacle.io/core/auth"
)

// call sends one request and returns the code and the message of its Status or,
// of a review, its status.
func call(t *testing.T, h *http.Client, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var st struct {
		Message string          `json:"message"`
		Status  json.RawMessage `json:"status"`
	}
	if err := json.Unmarshal(text, &st); err != nil {
		return resp.StatusCode, string(text)
	}
	if st.Message == "" && len(st.Status) > 0 {
		return resp.StatusCode, string(st.Status)
	}
	return resp.StatusCode, st.Message
}

// TestRefusals holds what upstream v1.36.3 answered to the same requests.
func TestRefusals(t *testing.T) {
	s := apitest.Start(t)
	create(t, s, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
	sa := create(t, s, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot"}})
	create(t, s, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "writer"}, Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"create", "update", "get", "list"}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings", "clusterroles", "clusterrolebindings"}},
		{Verbs: []string{"create", "update", "get", "list"}, APIGroups: []string{""}, Resources: []string{"pods"}}}})
	bind(t, s, "writer", "system:serviceaccount:ns:robot")
	tokens, err := auth.NewTokens(auth.TokenConfig{}, s.PKI.ServiceAccountKey)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := tokens.Sign(auth.Binding{Namespace: "ns", Account: auth.Ref{Name: "robot", UID: sa.UID}}, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	admin, anonymous := s.HTTP(t), s.Anonymous(t)
	waitAllowed(t, s, "system:serviceaccount:ns:robot", "create", "roles.rbac.authorization.k8s.io")

	const (
		rbac    = "/apis/rbac.authorization.k8s.io/v1"
		reviews = "/apis/authorization.k8s.io/v1/"
		token1  = "/api/v1/namespaces/ns/serviceaccounts/robot/token"
		grant   = `user "system:serviceaccount:ns:robot" (groups=["system:serviceaccounts" "system:serviceaccounts:ns" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:` + "\n"
	)
	robot := []string{"Authorization", "Bearer " + token}
	for _, tc := range []struct {
		name, method, path, body string
		who                      *http.Client
		headers                  []string
		code                     int
		want                     string
	}{
		{"anonymous", "GET", "/api/v1/namespaces/default/pods", "", anonymous, nil, 403,
			`pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default"`},
		{"anonymous, no such group", "GET", "/apis/x.y/v1/foos", "", anonymous, nil, 403,
			`foos.x.y is forbidden: User "system:anonymous" cannot list resource "foos" in API group "x.y" at the cluster scope`},
		{"a bad token", "GET", "/api", "", anonymous, []string{"Authorization", "Bearer bad"}, 401, "Unauthorized"},
		{"basic authentication", "GET", "/api", "", anonymous, []string{"Authorization", "Basic Zm9v"}, 403, `forbidden: User "system:anonymous" cannot get path "/api"`},
		{"impersonated", "GET", "/api/v1/namespaces/default/pods/x/log", "", admin, []string{"Impersonate-User", "jane"}, 403,
			`pods "x" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "default"`},
		{"impersonation of a group only", "GET", "/api", "", admin, []string{"Impersonate-Group", "g"}, 400,
			`requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"g"}, Extra:map[string][]string(nil)} without impersonating a user name`},
		{"no right to impersonate", "GET", "/api/v1/nodes", "", anonymous, append([]string{"Impersonate-User", "jane"}, robot...), 403,
			`nodes is forbidden: User "system:serviceaccount:ns:robot" cannot impersonate-on:user-info:list resource "nodes" in API group "" at the cluster scope`},
		{"nor an account", "GET", "/api/v1/nodes", "", anonymous, append([]string{"Impersonate-User", "system:serviceaccount:default:default"}, robot...), 403,
			`nodes is forbidden: User "system:serviceaccount:ns:robot" cannot impersonate-on:serviceaccount:list resource "nodes" in API group "" at the cluster scope`},
		{"nor a node", "GET", "/api/v1/nodes", "", anonymous, append([]string{"Impersonate-User", "system:node:n1"}, robot...), 403,
			`nodes is forbidden: User "system:serviceaccount:ns:robot" cannot impersonate-on:arbitrary-node:list resource "nodes" in API group "" at the cluster scope`},
		{"grant by role", "POST", rbac + "/namespaces/ns/roles", `{"metadata":{"name":"r"},"rules":[{"verbs":["get","delete"],"apiGroups":[""],"resources":["secrets","pods"]},{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"resourceNames":["a"]}]}`,
			anonymous, robot, 403, `roles.rbac.authorization.k8s.io "r" is forbidden: ` + grant +
				`{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}` + "\n" + `{APIGroups:[""], Resources:["secrets"], Verbs:["get" "delete"]}` + "\n" +
				`{APIGroups:["apps"], Resources:["deployments"], ResourceNames:["a"], Verbs:["get"]}`},
		{"grant of a path", "POST", rbac + "/clusterroles", `{"metadata":{"name":"x"},"rules":[{"verbs":["get"],"nonResourceURLs":["/metrics"]}]}`,
			anonymous, robot, 403, `clusterroles.rbac.authorization.k8s.io "x" is forbidden: ` + grant + `{NonResourceURLs:["/metrics"], Verbs:["get"]}`},
		{"aggregation", "POST", rbac + "/clusterroles", `{"metadata":{"name":"x"},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}}`,
			anonymous, robot, 403, `clusterroles.rbac.authorization.k8s.io "x" is forbidden: must have cluster-admin privileges to use the aggregationRule`},
		{"grant by binding", "POST", rbac + "/namespaces/ns/rolebindings", `{"metadata":{"name":"r"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:kube-dns"},"subjects":[]}`,
			anonymous, robot, 403, `rolebindings.rbac.authorization.k8s.io "r" is forbidden: ` + grant +
				`{APIGroups:[""], Resources:["endpoints"], Verbs:["list" "watch"]}` + "\n" + `{APIGroups:[""], Resources:["services"], Verbs:["list" "watch"]}`},
		{"binding of no cluster role", "POST", rbac + "/clusterrolebindings", `{"metadata":{"name":"x"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"nonexistent"},"subjects":[]}`,
			anonymous, robot, 404, `clusterrolebindings.rbac.authorization.k8s.io "nonexistent" not found`},
		{"binding of no role", "POST", rbac + "/namespaces/ns/rolebindings", `{"metadata":{"name":"x"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"none"},"subjects":[]}`,
			anonymous, robot, 404, `rolebindings.rbac.authorization.k8s.io "none" not found`},

		{"short token", "POST", token1, `{"spec":{"expirationSeconds":10}}`, admin, nil, 422,
			`TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes`},
		{"long token", "POST", token1, `{"spec":{"expirationSeconds":5000000000}}`, admin, nil, 422,
			`TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 5000000000: may not specify a duration larger than 2^32 seconds`},
		{"token of another name", "POST", token1, `{"metadata":{"name":"x"}}`, admin, nil, 422,
			`TokenRequest.authentication.k8s.io "robot" is invalid: metadata.name: Invalid value: "x": must match the service account name if specified`},
		{"token of another namespace", "POST", token1, `{"metadata":{"namespace":"x"}}`, admin, nil, 400,
			"the namespace of the provided object does not match the namespace sent on the request"},
		{"token of another account", "POST", token1, `{"metadata":{"uid":"x"}}`, admin, nil, 409,
			`Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "robot": the UID in the token request (x) does not match the UID of the service account (` + string(sa.UID) + `)`},
		{"token of no pod", "POST", token1, `{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"none"}}}`, admin, nil, 404, `pods "none" not found`},
		{"token of a service", "POST", token1, `{"spec":{"boundObjectRef":{"apiVersion":"v1","kind":"Service","name":"none"}}}`, admin, nil, 400, "cannot bind token to object of type /v1, Kind=Service"},

		{"review", "POST", reviews + "subjectaccessreviews", `{"spec":{"user":"jane","resourceAttributes":{"verb":"get","resource":"pods"}}}`, admin, nil, 201, `{"allowed":false}`},
		{"review with a reason", "POST", reviews + "subjectaccessreviews", `{"spec":{"user":"u","groups":["system:authenticated"],"nonResourceAttributes":{"verb":"get","path":"/version"}}}`, admin, nil, 201,
			`{"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to Group \"system:authenticated\""}`},
		{"review of nothing", "POST", reviews + "subjectaccessreviews", `{"spec":{}}`, admin, nil, 422,
			`.authorization.k8s.io "" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: "": at least one of user or group must be specified]`},
		{"review of two selectors", "POST", reviews + "subjectaccessreviews",
			`{"spec":{"user":"u","resourceAttributes":{"verb":"list","resource":"pods","fieldSelector":{"rawSelector":"a=b","requirements":[{"key":"a","operator":"In","values":["b"]}]},"labelSelector":{}}}}`, admin, nil, 422,
			`.authorization.k8s.io "" is invalid: [spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements, ` +
				`spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required]`},
		{"review of unknown selectors", "POST", reviews + "subjectaccessreviews",
			`{"spec":{"user":"u","resourceAttributes":{"verb":"list","resource":"pods","fieldSelector":{"rawSelector":"a,,b"},"labelSelector":{"requirements":[{"key":"a","operator":"Near","values":["b"]},{"key":"b","operator":"Exists"}]}}}}`, admin, nil, 201,
			`{"allowed":false,"evaluationError":"spec.resourceAttributes.fieldSelector ignored due to parse error; spec.resourceAttributes.labelSelector partially ignored due to parse error"}`},
		{"review of a node", "POST", reviews + "subjectaccessreviews",
			`{"spec":{"user":"system:node:n1","groups":["system:nodes"],"resourceAttributes":{"verb":"list","resource":"pods","fieldSelector":{"rawSelector":"spec.nodeName=n1"}}}}`, admin, nil, 201, `{"allowed":true}`},
		{"review of a node's secret", "POST", reviews + "subjectaccessreviews",
			`{"spec":{"user":"system:node:n1","groups":["system:nodes"],"resourceAttributes":{"verb":"get","resource":"secrets","namespace":"x","name":"y"}}}`, admin, nil, 201,
			`{"allowed":false,"reason":"no relationship found between node 'n1' and this object"}`},
		{"local review elsewhere", "POST", reviews + "namespaces/default/localsubjectaccessreviews", `{"spec":{"user":"u","resourceAttributes":{"verb":"get","resource":"pods","namespace":"other"}}}`, admin, nil, 422,
			`.authorization.k8s.io "" is invalid: spec.resourceAttributes.namespace: Invalid value: "other": must match metadata.namespace`},
		{"own review", "POST", reviews + "selfsubjectaccessreviews", `{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}`, admin, nil, 201, `{"allowed":true}`},
		{"rules of no namespace", "POST", reviews + "selfsubjectrulesreviews", `{"spec":{}}`, admin, nil, 400, "no namespace on request"},
		{"token review", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"bad"}}`, admin, nil, 201, `{"user":{},"error":"invalid bearer token"}`},
		{"token review of nothing", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{}}`, admin, nil, 400, "token is required for TokenReview in authentication"},
		{"token review for another audience", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"` + token + `","audiences":["bank"]}}`, admin, nil, 201,
			`{"user":{},"error":"[invalid bearer token, token audiences [\"https://kubernetes.default.svc.cluster.local\"] is invalid for the target audiences [\"bank\"]]"}`},
	} {
		if code, got := call(t, tc.who, tc.method, s.URL+tc.path, tc.body, tc.headers...); code != tc.code || got != tc.want {
			t.Errorf("%s: %d\n\t%s\nwant %d\n\t%s", tc.name, code, got, tc.code, tc.want)
		}
	}
}

func bind(t *testing.T, s *apitest.Server, role, user string) {
	t.Helper()
	create(t, s, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}})
}

// waitAllowed waits until the authorizer has seen a binding.
func waitAllowed(t *testing.T, s *apitest.Server, user, verb, resource string) {
	t.Helper()
	name, group, _ := strings.Cut(resource, ".")
	body := `{"spec":{"user":"` + user + `","resourceAttributes":{"verb":"` + verb + `","group":"` + group + `","resource":"` + name + `"}}}`
	deadline, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for deadline.Err() == nil {
		if _, got := call(t, s.HTTP(t), "POST", s.URL+"/apis/authorization.k8s.io/v1/subjectaccessreviews", body); strings.Contains(got, `"allowed":true`) {
			return
		}
	}
	t.Fatalf("%s may not %s %s", user, verb, resource)
}
