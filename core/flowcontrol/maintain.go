package flowcontrol

import (
	"context"
	"fmt"
	"strconv"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
)

// kept is how the objects of one of the two kinds are kept up to date.
type kept[T client.Object] struct {
	wanted    []T
	mandatory int // so many of wanted, from the front
	// adopt makes have's spec that of want and reports whether it was not.
	adopt func(have, want T) bool
}

// maintain makes the mandatory and suggested objects what they should be, and
// removes those that earlier versions suggested.
func (c *Controller) maintain(ctx context.Context) error {
	if err := maintainKind(ctx, c.client, kept[*flowcontrolv1.PriorityLevelConfiguration]{
		wanted: append(kind.MandatoryPriorityLevels(), suggestedLevels()...), mandatory: len(kind.MandatoryPriorityLevels()),
		adopt: func(have, want *flowcontrolv1.PriorityLevelConfiguration) bool {
			spec := *want.Spec.DeepCopy()
			if want.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt && have.Spec.Exempt != nil {
				spec.Exempt = have.Spec.Exempt // the one part that is the user's
			}
			same := equality.Semantic.DeepEqual(have.Spec, spec)
			have.Spec = spec
			return !same
		},
	}); err != nil {
		return err
	}
	return maintainKind(ctx, c.client, kept[*flowcontrolv1.FlowSchema]{
		wanted: append(kind.MandatoryFlowSchemas(), suggestedSchemas()...), mandatory: len(kind.MandatoryFlowSchemas()),
		adopt: func(have, want *flowcontrolv1.FlowSchema) bool {
			same := equality.Semantic.DeepEqual(have.Spec, want.Spec)
			have.Spec = *want.Spec.DeepCopy()
			return !same
		},
	})
}

func maintainKind[T client.Object](ctx context.Context, c client.Client, k kept[T]) error {
	have, _, err := client.ListOf[T](ctx, c, client.ReadOptions{})
	if err != nil {
		return fmt.Errorf("cannot read the configuration of priority and fairness: %w", err)
	}
	r, err := c.ResourceOf(k.wanted[0])
	if err != nil {
		return err
	}
	as := client.WriteOptions{FieldManager: producer}
	present := map[string]T{}
	for _, o := range have {
		present[o.GetName()] = o
	}
	for i, want := range k.wanted {
		o, ok := present[want.GetName()]
		delete(present, want.GetName())
		if !ok {
			if _, err := c.Create(ctx, r, client.KeyOf(want), want, as); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("cannot create %T %q: %w", want, want.GetName(), err)
			}
			continue
		}
		ours := i < k.mandatory || serverOwns(o)
		next := o.DeepCopyObject().(T)
		changed := ours && k.adopt(next, want)
		if mark := strconv.FormatBool(ours); next.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey] != mark {
			marks := map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: mark}
			for key, v := range next.GetAnnotations() {
				if key != flowcontrolv1.AutoUpdateAnnotationKey {
					marks[key] = v
				}
			}
			next.SetAnnotations(marks)
			changed = true
		}
		if !changed {
			continue
		}
		// The next pass comes back to one that somebody else changes meanwhile.
		if _, err := c.Update(ctx, r, next, as); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot update %T %q: %w", want, want.GetName(), err)
		}
	}
	for name, o := range present {
		if o.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey] != "true" {
			continue
		}
		if err := client.Delete[T](ctx, c, "", name, client.DeleteOptions{UID: o.GetUID(), Revision: o.GetResourceVersion()}); err != nil &&
			!apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("cannot delete the obsolete %T %q: %w", o, name, err)
		}
	}
	return nil
}

// serverOwns reads the annotation and, where it says nothing, whether
// anybody has changed the spec since it was made.
func serverOwns(o client.Object) bool {
	if owns, err := strconv.ParseBool(o.GetAnnotations()[flowcontrolv1.AutoUpdateAnnotationKey]); err == nil {
		return owns
	}
	return o.GetGeneration() == 1
}
