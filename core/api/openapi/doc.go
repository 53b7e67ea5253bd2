// Package openapi describes the API: /openapi/v2 and /openapi/v3.
//
// It owns the documents, made when they are first asked for and kept as bytes:
// schemas from the Go types (JSON tags, SwaggerDoc, OpenAPIModelName, patch
// tags, list markers from the apply schema), paths from the catalogue. Nothing
// generated is checked in. It promises what kubectl needs for explain, for
// validation and for finding out whether an endpoint knows a parameter. It
// refuses to describe retired versions.
package openapi
