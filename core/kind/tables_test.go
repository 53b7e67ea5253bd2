package kind

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// tablesFrom makes TestTablesAreUpstreams write its golden files anew: it
// creates the objects of testdata/tables/*.yaml there and keeps what upstream
// shows of them, with the objects as they were at that moment.
var tablesFrom = flag.String("tables-from", "", "kubeconfig of an upstream cluster to record tables from")

// shown is a golden file: the columns of a kind and rows with their objects.
type shown struct {
	Columns []metav1.TableColumnDefinition
	Rows    []shownRow
}

type shownRow struct {
	Cells  []any
	Object json.RawMessage
	// At is when the row was made: ages are counted until then.
	At time.Time
}

func TestTablesAreUpstreams(t *testing.T) {
	if *tablesFrom != "" {
		recordTables(t, *tablesFrom)
	}
	files, err := filepath.Glob("testdata/tables/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d golden files: %v", len(files), err)
	}
	kinds := Builtin()
	seen := map[string]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want shown
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			for i, row := range want.Rows {
				u := &unstructured.Unstructured{}
				if err := u.UnmarshalJSON(row.Object); err != nil {
					t.Fatal(err)
				}
				k, _, ok := kinds.ByKind(u.GroupVersionKind())
				if !ok {
					t.Fatalf("no kind %s", u.GroupVersionKind())
				}
				seen[k.GroupResource().String()] = true
				if i == 0 {
					compareColumns(t, want.Columns, columnsOf(k))
				}
				compareRow(t, k, u, row)
			}
		})
	}
	for _, k := range kinds.All() {
		if !k.Virtual && !seen[k.GroupResource().String()] && notRecorded()[k.Resource] == "" {
			t.Errorf("no table of %s has been recorded", k.GroupResource())
		}
	}
}

// notRecorded are kinds of v1.37 that the recorded release does not serve.
func notRecorded() map[string]string {
	const newer = "served by default since v1.37"
	return map[string]string{
		"clustertrustbundles": newer, "podcertificaterequests": newer, "devicetaintrules": newer, "storageversionmigrations": newer,
	}
}

func columnsOf(k *Kind) []Column {
	if len(k.Columns) == 0 {
		return DefaultColumns()
	}
	return k.Columns
}

func compareColumns(t *testing.T, want []metav1.TableColumnDefinition, columns []Column) {
	t.Helper()
	var got []metav1.TableColumnDefinition
	for _, c := range columns {
		got = append(got, c.TableColumnDefinition)
	}
	for i := range max(len(want), len(got)) {
		var w, g metav1.TableColumnDefinition
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w.Description = newerDescription(w.Description, g.Description); w != g {
			t.Errorf("column %d:\nupstream %s\nours     %s", i, brief(w), brief(g))
		}
	}
}

// newerDescription is ours where v1.37 begins a field's description with its
// JSON name, or words it anew.
func newerDescription(upstream, ours string) string {
	if upstream == "" || ours == "" {
		return upstream
	}
	// Sentences have been added to these.
	longer := map[string]bool{"Name is used to identify the pool. For node-local devices, t": true}
	reworded := map[string]string{
		"Name of the CSI driver This field is immutable.": "driverName is the name of the CSI driver This field is immutable.",
	}
	if strings.EqualFold(upstream, ours) || longer[upstream[:min(len(upstream), 60)]] && strings.HasPrefix(ours, upstream[:60]) || reworded[upstream] == ours {
		return ours
	}
	return upstream
}

// brief says enough of a column to find it.
func brief(c metav1.TableColumnDefinition) string {
	return fmt.Sprintf("%s %s %q %d %.80q (%d bytes)", c.Name, c.Type, c.Format, c.Priority, c.Description, len(c.Description))
}

func compareRow(t *testing.T, k *Kind, u *unstructured.Unstructured, row shownRow) {
	t.Helper()
	o := k.New()
	if u.GroupVersionKind() != k.Hub {
		t.Fatalf("%s is not recorded in its hub version %s", u.GroupVersionKind(), k.Hub)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, o); err != nil {
		t.Fatal(err)
	}
	for i, c := range columnsOf(k) {
		if i >= len(row.Cells) {
			return // told by the columns
		}
		// Upstream's clock may have been anywhere within the second.
		now, later := cellJSON(t, c.Cell(o, row.At)), cellJSON(t, c.Cell(o, row.At.Add(time.Second)))
		if want := cellJSON(t, row.Cells[i]); want != now && want != later {
			t.Errorf("%s: %s is %s, upstream has %s", u.GetName(), c.Name, now, want)
		}
	}
}

// cellJSON tells 2 from "2".
func cellJSON(t *testing.T, cell any) string {
	t.Helper()
	b, err := json.Marshal(cell)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// recorder creates objects on upstream.
type recorder struct {
	t     *testing.T
	url   string
	http  *http.Client
	kinds *Catalogue
	undo  []func()
	files map[string]shown // golden files by resource
}

func recordTables(t *testing.T, kubeconfig string) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	cfg.QPS = 1000
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{t: t, url: strings.TrimSuffix(cfg.Host, "/"), http: h, kinds: Builtin(), files: map[string]shown{}}
	defer func() {
		for i := len(r.undo) - 1; i >= 0; i-- {
			r.undo[i]()
		}
	}()
	files, err := filepath.Glob("testdata/tables/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(b), 4096)
		for {
			u := &unstructured.Unstructured{}
			if err := d.Decode(&u.Object); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if u.Object != nil {
				r.create(u)
			}
		}
	}
	r.keep()
}

// do sends a request and returns the answer's body and time.
func (r *recorder) do(method, path, contentType string, body any, accept string) ([]byte, time.Time, int) {
	r.t.Helper()
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		reader = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, r.url+path, reader)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Content-Type", contentType)
	res, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	at, _ := http.ParseTime(res.Header.Get("Date"))
	return b, at, res.StatusCode
}

// The annotations of a fixture that say what else to do with it.
const (
	doDelete  = "tables/delete"  // delete it; a finalizer keeps it
	doApprove = "tables/approve" // write status through approval first
)

const tablesNamespace = "binnacle-tables"

func (r *recorder) path(u *unstructured.Unstructured, name bool) string {
	gvk := u.GroupVersionKind()
	k, _, ok := r.kinds.ByKind(gvk)
	if !ok {
		r.t.Fatalf("no kind %s", gvk)
	}
	p := "/apis/" + gvk.GroupVersion().String()
	if gvk.Group == "" {
		p = "/api/" + gvk.Version
	}
	if !k.ClusterScoped {
		p += "/namespaces/" + cmp.Or(u.GetNamespace(), tablesNamespace)
	}
	p += "/" + k.Resource
	if name {
		p += "/" + u.GetName()
	}
	return p
}

func (r *recorder) create(u *unstructured.Unstructured) {
	const plain = "application/json"
	status, hasStatus := u.Object["status"]
	b, _, code := r.do("POST", r.path(u, false), plain, u, plain)
	if code != http.StatusCreated {
		r.t.Fatalf("cannot create %s %q: %d %s", u.GetKind(), u.GetName(), code, b)
	}
	path := r.path(u, true)
	r.undo = append(r.undo, func() {
		r.do("DELETE", path+"?gracePeriodSeconds=0", plain, nil, plain)
		r.do("PATCH", path, "application/merge-patch+json", map[string]any{"metadata": map[string]any{"finalizers": nil}}, plain)
	})
	annotations := u.GetAnnotations()
	for _, sub := range []string{"/approval", "/status"} {
		if !hasStatus || sub == "/approval" && annotations[doApprove] == "" {
			continue
		}
		b, _, code := r.do("PATCH", path+sub, "application/merge-patch+json", map[string]any{"status": status}, plain)
		if code != http.StatusOK {
			r.t.Fatalf("cannot write %s of %s %q: %d %s", sub, u.GetKind(), u.GetName(), code, b)
		}
	}
	if annotations[doDelete] != "" {
		r.do("DELETE", path, plain, nil, plain)
	}
	r.show(u)
}

// show adds what upstream makes of the object to the golden file of its kind.
func (r *recorder) show(u *unstructured.Unstructured) {
	b, at, code := r.do("GET", r.path(u, true)+"?includeObject=Object", "application/json", nil, "application/json;as=Table;g=meta.k8s.io;v=v1")
	var table metav1.Table
	if err := json.Unmarshal(b, &table); code != http.StatusOK || err != nil || len(table.Rows) != 1 {
		r.t.Fatalf("cannot get the table of %s %q: %d %v %s", u.GetKind(), u.GetName(), code, err, b)
	}
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON(table.Rows[0].Object.Raw); err != nil {
		r.t.Fatal(err)
	}
	o.SetManagedFields(nil)
	o.SetUID("")
	o.SetResourceVersion("")
	raw, err := json.Marshal(o)
	if err != nil {
		r.t.Fatal(err)
	}
	k, _, _ := r.kinds.ByKind(o.GroupVersionKind())
	file := k.GroupResource().String()
	s := r.files[file]
	s.Columns = table.ColumnDefinitions
	s.Rows = append(s.Rows, shownRow{Cells: table.Rows[0].Cells, Object: bytes.TrimSpace(raw), At: at})
	r.files[file] = s
}

// keep writes the golden files, a row a line.
func (r *recorder) keep() {
	for name, s := range r.files {
		var b bytes.Buffer
		columns, err := json.Marshal(s.Columns)
		if err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintf(&b, "{\"Columns\":%s,\n\"Rows\":[", columns)
		for i, row := range s.Rows {
			line, err := json.Marshal(row)
			if err != nil {
				r.t.Fatal(err)
			}
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "\n%s", line)
		}
		b.WriteString("\n]}\n")
		if err := os.WriteFile(filepath.Join("testdata/tables", name+".json"), b.Bytes(), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}
