// Package openapi describes the API: /openapi/v2 and /openapi/v3.
//
// It owns the documents, made when they are first asked for, made anew when the
// kinds have changed, and kept as bytes: schemas from the Go types (JSON tags,
// SwaggerDoc, OpenAPIModelName, patch tags) and from what comments alone say
// (package markers), operations from the catalogue. kube-openapi's builders put
// them together. It promises definitions, properties, operations and parameters
// that are upstream's, but for what testdata/newer.txt lists. It refuses to
// describe retired versions.
package openapi
