package kubestate

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// ContentType is that of WriteText.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Handler serves the series as text for scrapers.
func (s *State) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ContentType)
		_ = s.WriteText(w) // the client went away
	})
}

type line struct {
	name   string
	labels labels.Labels
	value  float64
}

// WriteText writes all series in the text exposition format, sorted.
func (s *State) WriteText(w io.Writer) error {
	s.mu.Lock()
	lines := make([]line, 0, s.series)
	for _, o := range s.objects {
		for _, v := range o.series {
			lines = append(lines, line{v.Labels.Get(labels.MetricName), v.Labels, v.Value})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(lines, func(a, b line) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return labels.Compare(a.labels, b.labels)
	})
	hidden := map[string]bool{labels.MetricName: true}
	for i := 0; i < len(s.constant); i += 2 {
		hidden[s.constant[i]] = true
	}
	b := bufio.NewWriter(w)
	previous := ""
	var number []byte
	for _, l := range lines {
		if l.name != previous {
			previous = l.name
			kind := "gauge"
			if strings.HasSuffix(l.name, "_total") {
				kind = "counter"
			}
			b.WriteString("# HELP " + l.name + " " + help(l.name) + "\n# TYPE " + l.name + " " + kind + "\n")
		}
		b.WriteString(l.name)
		sep := byte('{')
		l.labels.Range(func(p labels.Label) {
			if hidden[p.Name] {
				return
			}
			b.WriteByte(sep)
			sep = ','
			b.WriteString(p.Name)
			b.WriteString(`="`)
			escape.WriteString(b, p.Value)
			b.WriteByte('"')
		})
		if sep == ',' {
			b.WriteByte('}')
		}
		b.WriteByte(' ')
		number = strconv.AppendFloat(number[:0], l.value, 'g', -1, 64)
		b.Write(number)
		b.WriteByte('\n')
	}
	return b.Flush()
}

var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// help says what a metric is, from its name: the kind and the field.
func help(name string) string {
	words := strings.Split(strings.TrimPrefix(name, "kube_"), "_")
	if len(words) < 2 {
		return "The " + words[0] + "."
	}
	return "The " + strings.Join(words[1:], " ") + " of a " + words[0] + "."
}
