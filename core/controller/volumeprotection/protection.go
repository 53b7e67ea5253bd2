package volumeprotection

import (
	"slices"

	"binnacle.io/core/client"
	"binnacle.io/core/controller"
)

var (
	podsResource    = client.Resource{Resource: "pods"}
	claimsResource  = client.Resource{Resource: "persistentvolumeclaims"}
	volumesResource = client.Resource{Resource: "persistentvolumes"}
	classesResource = client.Resource{Group: "storage.k8s.io", Resource: "volumeattributesclasses"}
)

// protect takes the finalizer off an object being deleted that is not used, and
// puts it on one that is not being deleted.
func protect(o client.Object, finalizer string, used func() bool) (p controller.Plan) {
	next := slices.Clone(o.GetFinalizers())
	going, marked := o.GetDeletionTimestamp() != nil, slices.Contains(next, finalizer)
	switch {
	case going && marked && !used():
		next = slices.DeleteFunc(next, func(f string) bool { return f == finalizer })
	case !going && !marked:
		next = append(next, finalizer)
	default:
		return p
	}
	changed := o.DeepCopyObject().(client.Object)
	changed.SetFinalizers(next)
	p.Add(controller.Update(changed))
	return p
}
