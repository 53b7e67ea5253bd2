// Package admission changes and refuses writes after authorization and before
// storage, as the cluster's built-in policies say.
//
// It owns the contract between the request pipeline and admission plugins
// (Attributes, Plugin, Mutator, Validator, Chain) and the built-in plugins, one
// file each, under upstream's plugin names. It promises:
//
//   - The order is upstream's recommended one. Where upstream has the policies
//     and webhooks that the cluster's own objects configure, after every plugin
//     but those that reserve (service addresses, quota), Config has places for
//     them: MutatingPolicies, MutatingWebhooks, ValidatingPolicies,
//     ValidatingWebhooks. A place is a Plugin or empty.
//   - Mutators run in the order of the chain, then the pipeline defaults and
//     validates, then validators run in the order of the chain; the first
//     refusal ends it.
//   - A refusal is an apierrors.APIStatus with upstream's code and wording.
//   - What a plugin reserves (an address, a port, quota) is given back when
//     the write does not happen: it registers that with Attributes.OnDone.
//   - Each step is measured under upstream's apiserver_admission_* names.
//
// It refuses to write objects on behalf of a request: what is in use (addresses,
// ports, quota) is counted from the state itself plus what is reserved. It
// refuses to be asked twice with one Attributes: an update that is tried again
// is a new Attributes.
package admission
