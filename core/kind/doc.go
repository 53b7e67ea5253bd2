// Package kind is the catalogue of built-in kinds.
//
// It owns what is particular about each kind: names, scope, served versions,
// defaults, validation, table columns, subresources, deletion rules. A kind is
// data with functions beside it, one file per kind or close family; the
// request pipeline, the store and discovery are generic over it. It promises
// that its functions are pure and that what they accept and answer is what
// upstream accepts and answers. It refuses I/O and knows no cluster state.
//
// How a request uses a Kind:
//
//	create:  decode → Version.ToHub → Default → mutating admission → Default
//	         → uid, name and creationTimestamp filled in → PrepareCreate
//	         → ValidateName, Validate → Warnings → store
//	update:  decode → Version.ToHub → Default → mutating admission → Default
//	         → PrepareUpdate → ValidateUpdate → Warnings → store
//	status:  the same with the Subresource's PrepareUpdate, ValidateUpdate
//	         (nil ValidateUpdate: only the metadata is checked)
//	scale:   Subresource.Project answers a GET; Apply, then the update path
//	delete:  GracePeriod; deletionTimestamp set → OnDelete; removed once
//	         there are no metadata.finalizers and Held says no
//
// Version.Retired is itself a Warning. A Job's PrepareCreate needs the uid and
// the name; Node keeps the status it is created with. Services leave clusterIP
// and node ports to admission; a CertificateSigningRequest its requester.
//
// Default is idempotent. The pipeline checks and fills in metadata (name,
// labels, uid, timestamps, immutable parts); kinds never do. An object with a
// generateName and no name yet is validated as if the name were complete.
//
// Columns are complete and in order: Name and Age are among them. A Cell is
// given the present time and returns what goes into the table as it is. A kind
// without Columns is shown with Name and Created At.
//
// What kubectl get shows is held against upstream's tables of the same objects
// (testdata/tables, recorded by TestTablesAreUpstreams -tables-from KUBECONFIG).
//
// Catalogue.Changes tells who keeps something per kind that kinds have come or
// gone: discovery, OpenAPI and the local APIServices follow without a restart.
//
// Lookups return a *Version next to the *Kind; nil means the hub version.
// A *Kind in the catalogue is never changed; Add replaces it.
package kind
