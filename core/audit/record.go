package audit

import (
	"context"
	"maps"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/auth"
)

// Record is what is known of one request. The pipeline fills it in as the
// request goes on; it is used by one goroutine, but for its annotations. The
// zero Record records nothing.
type Record struct {
	ID           types.UID
	Received     time.Time
	RequestURI   string
	UserAgent    string
	SourceIPs    []string
	Attributes   auth.Attributes // of the authenticated user
	Impersonated *auth.User
	// UID and ResourceVersion are those of the object in the request.
	UID, ResourceVersion string
	// Status is nil until something has been answered.
	Status *metav1.Status
	// RequestObject and ResponseObject are JSON, or empty.
	RequestObject, ResponseObject []byte
	// Decision and Reason are the authorizer's; Decision is empty before.
	Decision, Reason string

	log         *Log
	verdict     verdict
	annotations Annotations
}

// Start looks up what the policy says about r, which has its ID, Attributes and
// Received, and prepares it.
func (l *Log) Start(r *Record) {
	r.log = l
	r.verdict = l.policy.decide(&r.Attributes)
	l.metrics.level(r.verdict.level).Inc()
}

// Enabled reports whether anything will be recorded.
func (r *Record) Enabled() bool { return r.log != nil && r.verdict.level != None }

// Writes reports whether events are written, not only counted.
func (r *Record) Writes() bool { return r.Enabled() && r.log.sink != nil }

// WantsRequest and WantsResponse report whether bodies are recorded.
func (r *Record) WantsRequest() bool {
	return r.Writes() && (r.verdict.level == Request || r.verdict.level == RequestResponse)
}

// WantsResponse reports whether the response's body is recorded.
func (r *Record) WantsResponse() bool { return r.Writes() && r.verdict.level == RequestResponse }

// OmitsManagedFields reports whether bodies are recorded without them.
func (r *Record) OmitsManagedFields() bool { return r.verdict.omitManaged }

// Annotations are what parts of the pipeline add to a request's events. They
// are safe for concurrent use.
type Annotations struct {
	mu  sync.Mutex
	all map[string]string // guarded by mu
}

// Annotate adds to the events that are still to come.
func (r *Record) Annotate(key, value string) { r.annotations.add(key, value) }

func (a *Annotations) add(key, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[string]string{}
	}
	// The first has it, as upstream.
	if _, ok := a.all[key]; !ok {
		a.all[key] = value
	}
}

func (a *Annotations) copy() map[string]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.all)
}

type annotationsKey struct{}

// With returns ctx through which Annotate reaches r.
func With(ctx context.Context, r *Record) context.Context {
	if !r.Enabled() {
		return ctx
	}
	return context.WithValue(ctx, annotationsKey{}, &r.annotations)
}

// Annotate adds to the events of the request that ctx belongs to, if there are
// any. Keys name the component: "pod-security.kubernetes.io/enforce-policy".
func Annotate(ctx context.Context, key, value string) {
	if a, ok := ctx.Value(annotationsKey{}).(*Annotations); ok {
		a.add(key, value)
	}
}
