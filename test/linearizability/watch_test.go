package linearizability

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync"
)

// change is one event of a watch.
type change struct {
	Type   string `json:"type"`
	Object string `json:"object"`
	version
}

// watched is a list and the watch from its revision until the connection
// ended: everything of a kind through the last event.
type watched struct {
	Base   listing  `json:"base"`
	Events []change `json:"events"`

	mu      sync.Mutex
	through int64         // guarded by mu; revision of the last event
	grown   chan struct{} // guarded by mu; closed when through grows
}

func (w *watched) advance(through int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.through = max(w.through, through)
	close(w.grown)
	w.grown = make(chan struct{})
}

// reach returns once the watch has come to revision.
func (w *watched) reach(ctx context.Context, revision int64) error {
	for {
		w.mu.Lock()
		through, grown := w.through, w.grown
		w.mu.Unlock()
		if through >= revision {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("the watch came to %d, not to %d: %w", through, revision, ctx.Err())
		}
	}
}

// watch follows a kind until the connection ends. began gets what it follows
// once it does.
func watch(ctx context.Context, s *session, h *history, kind string, began func(*watched)) error {
	base, err := list(ctx, s, h, kind)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s%s?watch=1&allowWatchBookmarks=true&resourceVersion=%d&%s",
		s.url, collection(kind), base.Revision, h.selector()), nil)
	if err != nil {
		return err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("watch %s from %d: status %d", kind, base.Revision, resp.StatusCode)
	}
	w := &watched{Base: base, through: base.Revision, grown: make(chan struct{})}
	h.mu.Lock()
	h.watches = append(h.watches, w)
	h.mu.Unlock()
	began(w)
	for dec := json.NewDecoder(resp.Body); ; {
		var ev struct {
			Type   string   `json:"type"`
			Object document `json:"object"`
		}
		if err := dec.Decode(&ev); err != nil {
			return err
		}
		rev, err := strconv.ParseInt(ev.Object.Metadata.ResourceVersion, 10, 64)
		if err != nil {
			return fmt.Errorf("event %s of %s without a revision: %w", ev.Type, kind, err)
		}
		if ev.Type == "BOOKMARK" {
			w.advance(rev)
			continue
		}
		v, err := ev.Object.version(kind)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.Events = append(w.Events, change{ev.Type, kind + "/" + ev.Object.Metadata.Name, v})
		w.mu.Unlock()
		w.advance(rev)
	}
}

// at is the content at a revision the watch covers.
func (w *watched) at(revision int64) map[string]version {
	out := maps.Clone(w.Base.Objects)
	for _, ev := range w.Events {
		if ev.Revision > revision {
			break
		}
		if ev.Type == "DELETED" {
			delete(out, ev.Object)
		} else {
			out[ev.Object] = ev.version
		}
	}
	return out
}
