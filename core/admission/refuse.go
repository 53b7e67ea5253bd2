package admission

import (
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// refuse is the Forbidden Status of a plugin's refusal, in upstream's form:
// resource "name" is forbidden: reason.
func refuse(a *Attributes, reason error) *apierrors.StatusError {
	return apierrors.NewForbidden(a.Resource, a.name(), reason)
}

// name is the object's, or the prefix it will have.
func (a *Attributes) name() string {
	if a.Key.Name != "" || a.Object == nil {
		return a.Key.Name
	}
	if n := a.Object.GetName(); n != "" {
		return n
	}
	return a.Object.GetGenerateName()
}

// several joins refusals as upstream prints them.
type several []error

func (e several) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return "[" + strings.Join(texts, ", ") + "]"
}
