// Package markers holds what the comments of the API's Go types say and
// reflection cannot see: enumerations, which fields are optional, how lists and
// maps merge, defaults, and descriptions where a package has no SwaggerDoc.
//
// It owns types.json, which ./read makes from the sources of the libraries in
// go.mod; run "go generate ./core/api/openapi/markers" after changing their
// versions. It promises to be complete for the packages that ./read names.
package markers
