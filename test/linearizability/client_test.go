package linearizability

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// kinds are those written to: Secrets are encrypted at rest.
var kinds = []string{"configmaps", "secrets"}

const objectsPerKind = 3

// version is one state of an object.
type version struct {
	Value    string `json:"value"`
	Revision int64  `json:"revision"`
}

// listing is one answer to a list.
type listing struct {
	Kind         string             `json:"kind"`
	Call, Return int64              `json:"-"`
	Revision     int64              `json:"revision"`
	Objects      map[string]version `json:"objects"`
}

// history is what was asked and answered in a round. Times are nanoseconds
// since its start.
type history struct {
	start   time.Time
	round   int
	touched bool // versions may be written again unchanged in this round

	mu         sync.Mutex
	operations []porcupine.Operation // guarded by mu
	lists      []listing             // guarded by mu
	watches    []*watched            // guarded by mu
	answered   int                   // guarded by mu
	more       chan struct{}         // has an element after answered grew
}

func newHistory(round int) *history {
	return &history{start: time.Now(), round: round, more: make(chan struct{}, 1)}
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

func (h *history) add(client int, in input, out output, call int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations = append(h.operations, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: h.now()})
	h.answered++
	select {
	case h.more <- struct{}{}:
	default:
	}
}

// waitAnswers returns once n operations were answered.
func (h *history) waitAnswers(ctx context.Context, n int) error {
	for {
		h.mu.Lock()
		have := h.answered
		h.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-h.more:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d operations answered: %w", have, n, ctx.Err())
		}
	}
}

// document is the part of an object that is looked at.
type document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name            string            `json:"name,omitempty"`
		Namespace       string            `json:"namespace,omitempty"`
		ResourceVersion string            `json:"resourceVersion,omitempty"`
		Labels          map[string]string `json:"labels,omitempty"`
	} `json:"metadata"`
	Data map[string]string `json:"data,omitempty"`
}

func (d *document) version(kind string) (version, error) {
	rev, err := strconv.ParseInt(d.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		return version{}, fmt.Errorf("resourceVersion %q of %s: %w", d.Metadata.ResourceVersion, d.Metadata.Name, err)
	}
	value := d.Data["v"]
	if kind == "secrets" {
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return version{}, err
		}
		value = string(b)
	}
	return version{value, rev}, nil
}

func stored(kind, value string) string {
	if kind == "secrets" {
		return base64.StdEncoding.EncodeToString([]byte(value))
	}
	return value
}

func collection(kind string) string { return "/api/v1/namespaces/default/" + kind }

func (h *history) selector() string { return "labelSelector=round%3D" + strconv.Itoa(h.round) }

// object names the ith object of a kind in this round.
func (h *history) object(kind string, i int) string {
	return fmt.Sprintf("%s/r%d-%d", kind, h.round, i)
}

// client does random operations one after another.
type client struct {
	id   int
	h    *history
	rand *rand.Rand
	seen map[string]version // what it read or wrote last, by object
	n    int
}

// one does a random operation. It reports false when the server could not be
// reached.
func (c *client) one(ctx context.Context, s *session) bool {
	kind := kinds[c.rand.IntN(len(kinds))]
	object := c.h.object(kind, c.rand.IntN(objectsPerKind))
	c.n++
	in := input{Object: object, Value: fmt.Sprintf("%d.%d.%d", c.h.round, c.id, c.n)}
	switch n := c.rand.IntN(100); {
	case n < 30:
		in.Verb, in.Value = get, ""
	case n < 45:
		in.Verb = create
	case n < 55:
		in.Verb = update
	case n < 70:
		in.Verb = replace
		in.Touched = c.h.touched
		if in.Basis = c.seen[object].Value; in.Basis == "" {
			in.Verb, in.Value = get, ""
		}
	case n < 80:
		in.Verb = patch
	case n < 90:
		in.Verb, in.Value = remove, ""
	default:
		return c.list(ctx, s, kind)
	}
	return c.do(ctx, s, in)
}

// do sends one operation and records it. What certainly did not happen, and
// reads without an answer, say nothing and are left out.
func (c *client) do(ctx context.Context, s *session, in input) bool {
	kind, name, _ := strings.Cut(in.Object, "/")
	method, path, contentType := "", collection(kind)+"/"+name, "application/json"
	var d document
	d.APIVersion, d.Kind = "v1", map[string]string{"configmaps": "ConfigMap", "secrets": "Secret"}[kind]
	d.Metadata.Name, d.Metadata.Namespace = name, "default"
	d.Metadata.Labels = map[string]string{"round": strconv.Itoa(c.h.round)}
	d.Data = map[string]string{"v": stored(kind, in.Value)}
	body, err := json.Marshal(&d)
	switch in.Verb {
	case get:
		method, body = "GET", nil
	case create:
		method, path = "POST", collection(kind)
	case update:
		method = "PUT"
	case replace:
		method = "PUT"
		d.Metadata.ResourceVersion = strconv.FormatInt(c.seen[in.Object].Revision, 10)
		body, err = json.Marshal(&d)
	case patch:
		method, contentType = "PATCH", "application/merge-patch+json"
		body, err = json.Marshal(map[string]any{"data": d.Data})
	case remove:
		method, body = "DELETE", nil
	}
	if err != nil {
		panic(err)
	}
	call := c.h.now()
	code, answer, err := s.do(ctx, method, path, contentType, body)
	out, err := outcomeOf(in.Verb, code, answer, err)
	if out.Outcome == "" {
		return err == nil
	}
	if out.Outcome == done && in.Verb != remove {
		var got document
		var v version
		if err := json.Unmarshal(answer, &got); err != nil {
			panic(fmt.Sprintf("the answer to %v is not an object: %v", in, err))
		}
		if v, err = got.version(kind); err != nil {
			panic(err.Error())
		}
		out.Revision = v.Revision
		if in.Verb == get {
			out.Value = v.Value
		}
		c.seen[in.Object] = v
	}
	c.h.add(c.id, in, out, call)
	return err == nil
}

// outcomeOf reads an answer; no outcome means that the operation says nothing.
func outcomeOf(v verb, code int, answer []byte, err error) (output, error) {
	switch {
	case errors.Is(err, errNotSent):
		return output{}, err
	case err != nil || code >= 500:
		if err == nil {
			err = fmt.Errorf("status %d: %s", code, answer)
		}
		if v == get {
			return output{}, err
		}
		return output{Outcome: unknown}, err
	case code == http.StatusOK || code == http.StatusCreated:
		return output{Outcome: done}, nil
	case code == http.StatusNotFound:
		return output{Outcome: absent}, nil
	case code == http.StatusConflict && v == create:
		return output{Outcome: exists}, nil
	case code == http.StatusConflict:
		return output{Outcome: conflict}, nil
	case code == http.StatusTooManyRequests:
		return output{}, nil
	}
	panic(fmt.Sprintf("%s got status %d: %s", v, code, answer))
}

// list reads all of a kind; for each object it is a read as well.
func (c *client) list(ctx context.Context, s *session, kind string) bool {
	call := c.h.now()
	l, err := list(ctx, s, c.h, kind)
	if err != nil {
		return false
	}
	l.Call, l.Return = call, c.h.now()
	for i := range objectsPerKind {
		object := c.h.object(kind, i)
		out := output{Outcome: absent}
		if v, ok := l.Objects[object]; ok {
			out = output{Outcome: done, Value: v.Value, Revision: v.Revision}
			c.seen[object] = v
		}
		c.h.add(c.id, input{Object: object, Verb: get}, out, call)
	}
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.lists = append(c.h.lists, l)
	return true
}

func list(ctx context.Context, s *session, h *history, kind string) (listing, error) {
	code, answer, err := s.do(ctx, "GET", collection(kind)+"?"+h.selector(), "", nil)
	if err != nil {
		return listing{}, err
	}
	if code != http.StatusOK {
		return listing{}, fmt.Errorf("list %s: status %d: %s", kind, code, answer)
	}
	var got struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []document `json:"items"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return listing{}, err
	}
	l := listing{Kind: kind, Objects: map[string]version{}}
	if l.Revision, err = strconv.ParseInt(got.Metadata.ResourceVersion, 10, 64); err != nil {
		return listing{}, err
	}
	for i := range got.Items {
		if l.Objects[kind+"/"+got.Items[i].Metadata.Name], err = got.Items[i].version(kind); err != nil {
			return listing{}, err
		}
	}
	return l, nil
}
