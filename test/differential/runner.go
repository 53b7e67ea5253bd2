package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// parallel is how many requests of a file are under way at once.
const parallel = 8

// A runner tries the cases of one seed file on one server.
type runner struct {
	http *http.Client
	base string
	file *seedFile
	// defaulted are the seeds as upstream stores them; see expected.
	defaulted map[string]tree
	// live are the seeds as this server stores them, guarded by mu.
	mu   sync.Mutex
	live map[string]tree
	// made are the paths of objects to remove.
	made []string
}

func newRunner(c *rest.Config, file *seedFile) (*runner, error) {
	h, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, err
	}
	return &runner{http: h, base: c.Host, file: file, defaulted: map[string]tree{}, live: map[string]tree{}}, nil
}

// A response is an HTTP answer before it is made comparable.
type response struct {
	code     int
	body     tree
	warnings []string
}

func (r *runner) do(ctx context.Context, method, at string, body tree) (response, error) {
	var in io.Reader
	if body != nil {
		in = strings.NewReader(printTree(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+at, in)
	if err != nil {
		return response{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := r.http.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, err
	}
	out := response{code: resp.StatusCode}
	for _, w := range resp.Header.Values("Warning") {
		// 299 - "text"
		out.warnings = append(out.warnings, strings.TrimSuffix(strings.TrimPrefix(w, `299 - "`), `"`))
	}
	if out.body, err = parseTree(bytes.TrimSpace(data)); err != nil {
		return out, fmt.Errorf("cannot read the answer %d %q to %s %s: %w", resp.StatusCode, data, method, at, err)
	}
	return out, nil
}

// must is do for what has to succeed.
func (r *runner) must(ctx context.Context, method, at string, body tree) (tree, error) {
	resp, err := r.do(ctx, method, at, body)
	if err != nil {
		return nil, err
	}
	if resp.code >= 300 {
		message, _ := member(resp.body, "message")
		return nil, fmt.Errorf("cannot %s %s: %d %v", method, at, resp.code, message)
	}
	return resp.body, nil
}

func member(t tree, steps ...any) (tree, bool) { return at(t, path(steps)) }

func text(t tree, steps ...any) string {
	v, _ := at(t, path(steps))
	s, _ := v.(string)
	return s
}

// setUp makes the namespace and what the seeds need.
func (r *runner) setUp(ctx context.Context) error {
	if strings.Contains(r.file.Path, "{namespace}") {
		ns := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": r.file.namespace()}}
		if _, err := r.make(ctx, "/api/v1/namespaces", ns); err != nil {
			return err
		}
	}
	for _, n := range r.file.Needs {
		if _, err := r.make(ctx, strings.ReplaceAll(n.Path, "{namespace}", r.file.namespace()), n.Object); err != nil {
			return err
		}
	}
	return nil
}

// make creates an object that tearDown removes.
func (r *runner) make(ctx context.Context, collection string, obj tree) (tree, error) {
	out, err := r.must(ctx, http.MethodPost, collection, obj)
	if err != nil {
		return nil, err
	}
	r.made = append(r.made, collection+"/"+url.PathEscape(text(out, "metadata", "name")))
	return out, nil
}

func (r *runner) tearDown(ctx context.Context) error {
	var errs []error
	for _, at := range slices.Backward(r.made) {
		resp, err := r.do(ctx, http.MethodDelete, at, map[string]any{"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
		if err == nil && resp.code >= 300 && resp.code != http.StatusNotFound && resp.code != http.StatusConflict {
			err = fmt.Errorf("cannot delete %s: %d %s", at, resp.code, text(resp.body, "message"))
		}
		if err == nil && resp.code < 300 {
			err = r.finalize(ctx, at)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// finalize does what controllers would do before a deleted object goes.
func (r *runner) finalize(ctx context.Context, at string) error {
	for _, place := range []struct {
		finalizers path
		sub        string
	}{{path{"metadata", "finalizers"}, ""}, {path{"spec", "finalizers"}, "/finalize"}} {
		resp, err := r.do(ctx, http.MethodGet, at, nil)
		if err != nil || resp.code == http.StatusNotFound {
			return err
		}
		if _, ok := member(resp.body, place.finalizers...); !ok {
			continue
		}
		obj, err := remove(resp.body, place.finalizers)
		if err != nil {
			return err
		}
		if _, err = r.do(ctx, http.MethodPut, at+place.sub, obj); err != nil {
			return err
		}
	}
	return nil
}

// enliven creates the seeds that cases update.
func (r *runner) enliven(ctx context.Context, cases []request) error {
	for _, name := range r.file.Order {
		if r.live[name] != nil || !slices.ContainsFunc(cases, func(c request) bool { return c.seed == name && needsLive(c) }) {
			continue
		}
		seed := clone(r.file.Seeds[name])
		live, err := r.make(ctx, r.file.collection(), seed)
		if err != nil {
			return fmt.Errorf("seed %s: %w", name, err)
		}
		if status, ok := member(seed, "status"); ok && slices.Contains(r.file.Carries, "status") {
			if live, err = r.report(ctx, live, status); err != nil {
				return fmt.Errorf("seed %s: %w", name, err)
			}
		}
		if live, err = remove(live, path{"metadata", "managedFields"}); err != nil {
			return err
		}
		r.live[name] = live
	}
	return nil
}

// report writes the status, however often the server's own controllers come in
// between.
func (r *runner) report(ctx context.Context, live, status tree) (tree, error) {
	at := r.itemPath(live)
	for {
		next, err := put(live, path{"status"}, clone(status))
		if err != nil {
			return nil, err
		}
		resp, err := r.do(ctx, http.MethodPut, at+"/status", next)
		switch {
		case err != nil:
			return nil, err
		case resp.code < 300:
			return resp.body, nil
		case resp.code != http.StatusConflict:
			return nil, fmt.Errorf("cannot write the status of %s: %d %s", at, resp.code, text(resp.body, "message"))
		}
		if live, err = r.must(ctx, http.MethodGet, at, nil); err != nil {
			return nil, err
		}
	}
}

func needsLive(c request) bool { return c.verb == "update" || c.subresource != "" }

func (r *runner) itemPath(obj tree) string {
	return r.file.collection() + "/" + url.PathEscape(text(obj, "metadata", "name"))
}

// run sends the cases and returns the answers in their order. New objects come
// first, before there are live ones of the same name.
func (r *runner) run(ctx context.Context, cases []request) ([]answer, error) {
	answers, errs := make([]answer, len(cases)), make([]error, len(cases))
	some := func(live bool) {
		next := make(chan int)
		var workers sync.WaitGroup
		for range parallel {
			workers.Go(func() {
				for i := range next {
					answers[i], errs[i] = r.try(ctx, cases[i])
				}
			})
		}
		for i := range cases {
			if needsLive(cases[i]) == live {
				next <- i
			}
		}
		close(next)
		workers.Wait()
	}
	some(false)
	if err := r.enliven(ctx, cases); err != nil {
		return nil, err
	}
	some(true)
	return answers, errors.Join(errs...)
}

// try sends one case, as a dry run.
func (r *runner) try(ctx context.Context, c request) (answer, error) {
	a, err := r.tryOnce(ctx, c)
	for range conflicts {
		if err != nil || a.code != http.StatusConflict || c.verb != "update" || slices.ContainsFunc(c.changes, ofMetadata) {
			break
		}
		// A controller of the server was quicker.
		if err = r.refresh(ctx, c.seed); err == nil {
			a, err = r.tryOnce(ctx, c)
		}
	}
	return a, err
}

// conflicts is how often a case is tried again because something else wrote
// the object.
const conflicts = 5

// ofMetadata says that a conflict may be what the case is about.
func ofMetadata(c change) bool {
	switch last := lastMember(c.at); last {
	case "resourceVersion", "uid":
		return len(c.at) == 2
	}
	return false
}

func (r *runner) refresh(ctx context.Context, seed string) error {
	live := r.liveSeed(seed)
	now, err := r.must(ctx, http.MethodGet, r.itemPath(live), nil)
	if err != nil {
		return err
	}
	if now, err = remove(now, path{"metadata", "managedFields"}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[seed] = now
	return nil
}

func (r *runner) liveSeed(name string) tree {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[name]
}

func (r *runner) tryOnce(ctx context.Context, c request) (answer, error) {
	body, err := r.body(c)
	if err != nil {
		return answer{}, fmt.Errorf("case %s: %w", c, err)
	}
	method, at := http.MethodPost, r.file.collection()
	if needsLive(c) {
		at = r.itemPath(r.liveSeed(c.seed))
		if c.subresource != "" {
			at += "/" + c.subresource
		}
	}
	if c.verb == "update" {
		method = http.MethodPut
	}
	query := "?fieldValidation=Strict"
	if c.query != "" {
		query = "?" + c.query
	}
	resp, err := r.do(ctx, method, at+query+"&dryRun=All", body)
	if err != nil {
		return answer{}, fmt.Errorf("case %s: %w", c, err)
	}
	veil := strings.NewReplacer()
	if uids := slices.DeleteFunc([]string{text(resp.body, "metadata", "uid"), text(r.liveSeed(c.seed), "metadata", "uid")}, func(s string) bool { return s == "" }); len(uids) > 0 {
		veil = strings.NewReplacer(uids[0], "<uid>", uids[len(uids)-1], "<uid>")
	}
	resp.body = veiled(resp.body, veil)
	return r.comparable(c, veiled(body, veil), resp)
}

// body is what the case sends.
func (r *runner) body(c request) (tree, error) {
	var body tree
	var ok bool
	switch {
	case c.body != "":
		if body, ok = r.file.Bodies[c.subresource][c.body]; !ok {
			return nil, fmt.Errorf("no body %q", c.body)
		}
	case needsLive(c):
		if body = r.liveSeed(c.seed); body == nil {
			return nil, fmt.Errorf("no live seed %q", c.seed)
		}
	default:
		if body, ok = r.file.Seeds[c.seed]; !ok {
			return nil, fmt.Errorf("no seed %q", c.seed)
		}
	}
	return changed(clone(body), c.changes)
}

func changed(t tree, changes []change) (tree, error) {
	var err error
	for _, c := range changes {
		if t, err = c.apply(t); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// comparable makes an answer of a response.
func (r *runner) comparable(c request, body tree, resp response) (answer, error) {
	a := answer{code: resp.code}
	for _, w := range resp.warnings {
		a.warnings = append(a.warnings, shorten(w))
	}
	if text(resp.body, "kind") == "Status" && text(resp.body, "apiVersion") == "v1" {
		a.reason = text(resp.body, "reason")
		if a.code < 300 {
			return a, nil
		}
		causes, _ := member(resp.body, "details", "causes")
		list, _ := causes.([]any)
		for _, one := range list {
			a.causes = append(a.causes, cause{
				field: text(one, "field"), reason: strings.TrimPrefix(text(one, "reason"), "FieldValue"), message: shorten(text(one, "message")),
			})
		}
		// A set: some of upstream's checks run twice.
		slices.SortFunc(a.causes, func(x, y cause) int { return strings.Compare(x.String(), y.String()) })
		a.causes = slices.Compact(a.causes)
		message := text(resp.body, "message")
		if !strings.HasPrefix(message, invalidPrefix(body)) || len(a.causes) == 0 {
			a.message = shortMessage(message)
		}
		return a, nil
	}
	want, err := r.expected(c, body)
	if err != nil {
		return a, fmt.Errorf("case %s: %w", c, err)
	}
	for _, d := range compare(r.scrub(want, body), r.scrub(resp.body, body)) {
		a.stored = append(a.stored, shorten(d.String()))
	}
	return a, nil
}

// invalidPrefix begins the message of every 422 that lists causes.
func invalidPrefix(body tree) string {
	kind := text(body, "kind")
	if group, _, ok := strings.Cut(text(body, "apiVersion"), "/"); ok {
		kind += "." + group
	}
	return fmt.Sprintf("%s %q is invalid: ", kind, text(body, "metadata", "name"))
}

// expected is what would be stored if the server did nothing: for updates the
// body, for new objects the body after upstream's defaults of the seed.
func (r *runner) expected(c request, body tree) (tree, error) {
	if needsLive(c) || len(c.changes) == 0 || r.defaulted[c.seed] == nil {
		return clone(body), nil
	}
	want, err := changed(clone(r.defaulted[c.seed]), c.changes)
	if err != nil {
		return clone(body), nil
	}
	return want, nil
}

// learn remembers how upstream stores the seeds.
func (r *runner) learn(cases []recorded) error {
	for _, c := range cases {
		if c.verb != "create" || c.subresource != "" || c.query != "" || len(c.changes) > 0 || c.code != http.StatusCreated {
			continue
		}
		t := clone(r.file.Seeds[c.seed])
		for _, line := range c.stored {
			var changes []change
			var err error
			switch text := line[2:]; line[0] {
			case '-':
				changes, err = parseChanges("- " + text)
			default:
				p, value, cerr := cutPath(text)
				if cerr != nil {
					return cerr
				}
				changes, err = parseChanges(p.String() + " = " + strings.TrimSpace(value))
			}
			if err != nil {
				return fmt.Errorf("cannot follow %q: %w", line, err)
			}
			if t, err = changed(t, changes); err != nil {
				return err
			}
		}
		r.defaulted[c.seed] = t
	}
	return nil
}

const traceMark = "binnacle.io/traceparent"

// scrub leaves out of an object what no two servers agree on. asked is the
// request: a volatile value that it gives is kept.
func (r *runner) scrub(obj, asked tree) tree {
	obj = clone(obj)
	meta, _ := member(obj, "metadata")
	if m, ok := meta.(map[string]any); ok {
		for _, k := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "selfLink"} {
			delete(m, k)
		}
		// Binnacle marks what changed an object with its trace.
		if notes, ok := m["annotations"].(map[string]any); ok {
			delete(notes, traceMark)
			if len(notes) == 0 {
				delete(m, "annotations")
			}
		}
		if text(asked, "metadata", "name") == "" && m["name"] != nil {
			m["name"] = "<generated>"
		}
	}
	for _, place := range r.file.Ignored {
		if p, _, err := cutPath(place); err == nil {
			obj, _ = remove(obj, p)
		}
	}
	for _, place := range r.file.Volatile {
		p, _, err := cutPath(place)
		if err != nil {
			continue
		}
		got, ok := at(obj, p)
		if _, given := at(asked, p); ok && !given && got != "None" {
			obj, _ = put(obj, p, "<volatile>")
		}
	}
	return obj
}

// veiled returns the tree without what is new in each run: the present time and
// the uids that the replacer knows.
func veiled(t tree, uids *strings.Replacer) tree {
	switch t := t.(type) {
	case map[string]any:
		for k, v := range t {
			t[k] = veiled(v, uids)
		}
	case []any:
		for i, v := range t {
			t[i] = veiled(v, uids)
		}
	case string:
		return nowText.ReplaceAllStringFunc(uids.Replace(t), func(s string) string {
			if at, err := time.Parse(time.RFC3339, s); err == nil && time.Since(at).Abs() < time.Hour {
				return "<now>"
			}
			return s
		})
	}
	return t
}

var (
	longRun   = regexp.MustCompile(`x{40,}`)
	nowText   = regexp.MustCompile(`20[2-9][0-9]-[01][0-9]-[0-3][0-9]T[0-9:.]+Z`)
	resources = regexp.MustCompile(`resourceVersion: \d+`)
)

// shorten keeps a line short and the same from run to run. Only the first line
// of a message counts: what follows is a dump of Go values.
func shorten(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	s = goValue(s)
	s = longRun.ReplaceAllStringFunc(s, func(run string) string { return fmt.Sprintf("x{%d}", len(run)) })
	return s
}

// goValue cuts whole objects out of a message: upstream prints its internal
// types, whose members are named otherwise.
func goValue(s string) string {
	before, value, ok := strings.Cut(s, " value: ")
	if !ok {
		return s
	}
	if value != "" && (value[0] == '{' || value[0] == '[') {
		d := json.NewDecoder(strings.NewReader(value))
		var v any
		if err := d.Decode(&v); err == nil {
			value = "{...}" + value[d.InputOffset():]
		}
	}
	return before + " value: " + goValue(value)
}

func shortMessage(message string) string {
	// Where etcd's keys begin is a setting.
	message = strings.ReplaceAll(message, "Key: /registry/", "Key: /")
	return resources.ReplaceAllString(shorten(message), "resourceVersion: <n>")
}
