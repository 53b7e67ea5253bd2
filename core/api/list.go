package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/store"
)

// listOptions are those of list, watch and deletecollection.
type listOptions struct {
	metav1.ListOptions
	filter store.Filter
}

// parseListOptions reads and checks the query of a list or watch.
func parseListOptions(q *request, query url.Values, watch bool) (*listOptions, error) {
	o := &listOptions{}
	if err := metav1.Convert_url_Values_To_v1_ListOptions(&query, &o.ListOptions, nil); err != nil {
		return nil, badRequest("%v", err)
	}
	o.Watch = watch
	in := internalversion.ListOptions{
		Watch: watch, AllowWatchBookmarks: o.AllowWatchBookmarks, ResourceVersion: o.ResourceVersion,
		ResourceVersionMatch: o.ResourceVersionMatch, TimeoutSeconds: o.TimeoutSeconds, Limit: o.Limit,
		Continue: o.Continue, SendInitialEvents: o.SendInitialEvents,
	}
	internalversion.SetListOptionsDefaults(&in, true)
	o.SendInitialEvents, o.ResourceVersionMatch = in.SendInitialEvents, in.ResourceVersionMatch
	if errs := internalvalidation.ValidateListOptions(&in, true); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	if o.Limit < 0 {
		o.Limit = 0
	}
	lsel, err := labels.Parse(o.LabelSelector)
	if err != nil {
		return nil, badRequest("unable to parse requirement: %v", strings.TrimPrefix(err.Error(), "unable to parse requirement: "))
	}
	fsel, err := fields.ParseSelector(o.FieldSelector)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	if o.filter, err = newFilter(q.kind, q.key.Namespace, lsel, fsel); err != nil {
		return nil, err
	}
	// Legacy watch paths name the object in the path.
	if q.key.Name != "" {
		if name, ok := fsel.RequiresExactMatch("metadata.name"); ok && name != q.key.Name {
			return nil, badRequest("fieldSelector metadata.name doesn't match requested name")
		}
		o.filter.Name = q.key.Name
	}
	return o, nil
}

// newFilter checks that the kind knows the fields asked for.
func newFilter(k *kind.Kind, namespace string, l labels.Selector, f fields.Selector) (store.Filter, error) {
	if f != nil && !f.Empty() {
		known := fields.Set{}
		if k.Fields != nil {
			known = k.Fields(k.New())
		}
		for _, r := range f.Requirements() {
			if r.Field == "metadata.name" || r.Field == "metadata.namespace" {
				continue
			}
			if _, ok := known[r.Field]; ok {
				continue
			}
			if k.Fields == nil {
				return store.Filter{}, badRequest("%q is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", r.Field)
			}
			return store.Filter{}, badRequest("field label not supported: %s", r.Field)
		}
	}
	return store.Filter{Namespace: namespace, Labels: l, Fields: f}, nil
}

// page is one answer to a list.
type page struct {
	revision  int64
	entries   []*store.Entry
	more      string // continue token
	remaining *int64
}

func (p *page) meta() metav1.ListMeta {
	return metav1.ListMeta{
		ResourceVersion: strconv.FormatInt(p.revision, 10), Continue: p.more, RemainingItemCount: p.remaining,
	}
}

func parseRevision(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	rv, err := strconv.ParseInt(s, 10, 64)
	if err != nil || rv < 0 {
		return 0, badRequest("invalid resource version: resourceVersion: Invalid value: %q: strconv.ParseUint: parsing %q: invalid syntax", s, s)
	}
	return rv, nil
}

// freshness maps resourceVersion and its match to what the store must show.
func freshness(o *listOptions) (store.Freshness, error) {
	rv, err := parseRevision(o.ResourceVersion)
	if err != nil {
		return store.Latest(), err
	}
	switch {
	case o.ResourceVersion == "":
		return store.Latest(), nil
	case rv == 0:
		return store.Any(), nil
	case o.ResourceVersionMatch == metav1.ResourceVersionMatchExact,
		o.ResourceVersionMatch == "" && o.Limit > 0:
		return store.Exact(rv), nil
	}
	return store.NotOlderThan(rv), nil
}

// list reads one page.
func (s *Server) list(ctx context.Context, q *request, o *listOptions) (*page, error) {
	fresh, err := freshness(o)
	if err != nil {
		return nil, err
	}
	var after *client.Key
	if o.Continue != "" {
		if o.ResourceVersion != "" && o.ResourceVersion != "0" {
			return nil, badRequest("specifying resource version is not allowed when using continue")
		}
		token, err := decodeContinue(o.Continue)
		if err != nil {
			return nil, err
		}
		key := token.key()
		after = &key
		fresh = store.Latest()
		if token.Revision > 0 {
			fresh = store.Exact(token.Revision)
		}
	}
	snap, err := s.store.Snapshot(ctx, q.gr(), fresh)
	if err != nil {
		if after != nil && apierrors.IsResourceExpired(err) {
			return nil, continueExpired(*after)
		}
		return nil, err
	}
	entries := snap.Select(o.filter)
	if after != nil {
		entries = snap.SelectAfter(o.filter, *after)
	}
	p := &page{revision: snap.Revision()}
	if o.Limit <= 0 {
		p.entries = slices.Collect(entries)
		return p, nil
	}
	rest := int64(0)
	plain := (o.filter.Labels == nil || o.filter.Labels.Empty()) && (o.filter.Fields == nil || o.filter.Fields.Empty())
	for e := range entries {
		if int64(len(p.entries)) < o.Limit {
			p.entries = append(p.entries, e)
			continue
		}
		rest++
		if !plain {
			break
		}
	}
	if rest > 0 {
		snap.Keep()
		p.more = encodeContinue(p.revision, p.entries[len(p.entries)-1].Key)
		if plain {
			p.remaining = &rest
		}
	}
	return p, nil
}

// continueToken has upstream's shape. Start is the key after which to go on,
// with a NUL at its end.
type continueToken struct {
	APIVersion string `json:"v"`
	Revision   int64  `json:"rv"`
	Start      string `json:"start"`
}

const continueVersion = "meta.k8s.io/v1"

func (t continueToken) key() client.Key {
	path := strings.TrimSuffix(t.Start, "\x00")
	if ns, name, ok := strings.Cut(path, "/"); ok {
		return client.Key{Namespace: ns, Name: name}
	}
	return client.Key{Name: path}
}

func encodeContinue(revision int64, last client.Key) string {
	out, err := json.Marshal(continueToken{continueVersion, revision, last.String() + "\x00"})
	if err != nil {
		panic(fmt.Sprintf("continue token of %q does not encode: %v", last, err))
	}
	return base64.RawURLEncoding.EncodeToString(out)
}

func decodeContinue(s string) (continueToken, error) {
	var t continueToken
	data, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	switch {
	case err != nil:
		return t, badRequest("invalid continue token: continue key is not valid: %v", err)
	case t.APIVersion != continueVersion:
		return t, badRequest("invalid continue token: continue key is not valid: server does not recognize this encoded version %s", t.APIVersion)
	case t.Revision == 0:
		return t, badRequest("invalid continue token: continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
	case t.Start == "":
		return t, badRequest("invalid continue token: continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")
	case slices.Contains(strings.Split(strings.TrimSuffix(t.Start, "\x00"), "/"), ".."):
		return t, badRequest("invalid continue token: continue key is not valid: %s", t.Start)
	}
	return t, nil
}

// continueExpired lets the client go on from where it was, inconsistently.
func continueExpired(after client.Key) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired,
		ListMeta: metav1.ListMeta{Continue: encodeContinue(-1, after)},
		Message: "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, " +
			"or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list: " +
			"objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
	}}
}

// getFreshness is that of a single read.
func getFreshness(rv string) (store.Freshness, error) {
	n, err := parseRevision(rv)
	switch {
	case err != nil:
		return store.Latest(), err
	case rv == "":
		return store.Latest(), nil
	case n == 0:
		return store.Any(), nil
	}
	return store.NotOlderThan(n), nil
}
