package tracing

import "net/http"

// Handler serves Jaeger's API under /jaeger/api/ and Tempo's under /tempo/api/.
func (t *Tracing) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/jaeger/", http.StripPrefix("/jaeger", t.JaegerHandler()))
	mux.Handle("/tempo/", http.StripPrefix("/tempo", t.TempoHandler()))
	return mux
}
