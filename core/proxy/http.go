package proxy

import (
	"encoding/json"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Healthz answers /healthz (and /livez) as upstream's proxy does on 10256.
func (p *Proxy) Healthz() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := struct {
			LastUpdated  time.Time `json:"lastUpdated"`
			CurrentTime  time.Time `json:"currentTime"`
			NodeEligible bool      `json:"nodeEligible"`
			Reason       string    `json:"reason,omitempty"`
		}{CurrentTime: time.Now(), NodeEligible: true}
		if n := p.lastSync.Load(); n != 0 {
			body.LastUpdated = time.Unix(0, n)
		}
		code := http.StatusOK
		if err := p.Healthy(); err != nil {
			code, body.Reason, body.NodeEligible = http.StatusServiceUnavailable, err.Error(), false
		}
		respond(w, code, body)
	})
}

// portView is a row as /proxy/plan shows it.
type portView struct {
	Name        string         `json:"name"`
	Protocol    string         `json:"protocol"`
	Frontends   []frontendView `json:"frontends"`
	Affinity    string         `json:"affinity,omitempty"`
	Cluster     []string       `json:"cluster"`
	Internal    []string       `json:"internal"`
	External    []string       `json:"external"`
	Explanation []Decision     `json:"explanation,omitempty"`
}

type frontendView struct {
	Kind string `json:"kind"`
	Addr string `json:"addr,omitempty"`
	Port uint16 `json:"port"`
	Used bool   `json:"used"`
}

// Plan answers GET with the desired table as JSON; with the parameters
// namespace and name, that Service's decisions.
func (p *Proxy) Plan() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.Error(w, "only GET is allowed", http.StatusMethodNotAllowed)
			return
		}
		if name := r.FormValue("name"); name != "" {
			respond(w, http.StatusOK, p.Explain(types.NamespacedName{Namespace: r.FormValue("namespace"), Name: name}))
			return
		}
		p.mu.Lock()
		views := []portView{}
		for _, n := range p.table.Names() {
			views = append(views, p.table.view(p.table.Port(n)))
		}
		p.mu.Unlock()
		respond(w, http.StatusOK, views)
	})
}

func (t *Table) view(p *Port) portView {
	v := portView{Name: p.PortName.String(), Protocol: string(p.Protocol), Cluster: texts(p.Cluster), Internal: texts(p.Internal), External: texts(p.External)}
	if p.Affinity > 0 {
		v.Affinity = p.Affinity.String()
	}
	for _, f := range p.Frontends {
		fv := frontendView{Kind: string(f.Kind), Port: f.Port, Used: t.Owns(p, f)}
		if f.Addr.IsValid() {
			fv.Addr = f.Addr.String()
		}
		v.Frontends = append(v.Frontends, fv)
	}
	return v
}

func texts(pool []Endpoint) []string {
	list := []string{}
	for _, e := range pool {
		s := e.AddrPort.String()
		if e.Local {
			s += " (local)"
		}
		list = append(list, s)
	}
	return list
}

func respond(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A client that went away is nobody's error.
	_ = json.NewEncoder(w).Encode(body)
}
