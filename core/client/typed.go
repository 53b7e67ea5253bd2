package client

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// resourceOf finds T's resource; T is a pointer to an API struct.
func resourceOf[T Object](c Client) (Resource, error) {
	return c.ResourceOf(reflect.New(reflect.TypeFor[T]().Elem()).Interface().(T))
}

func as[T Object](o Object, err error) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	t, ok := o.(T)
	if !ok {
		return none, fmt.Errorf("cannot use %T as %T", o, none)
	}
	return t, nil
}

// Get reads one object, linearizably.
func Get[T Object](ctx context.Context, c Client, namespace, name string) (T, error) {
	return get[T](ctx, c, Key{namespace, name}, ReadOptions{})
}

// GetCached reads one object from local state.
func GetCached[T Object](ctx context.Context, c Client, namespace, name string) (T, error) {
	return get[T](ctx, c, Key{namespace, name}, ReadOptions{FromCache: true})
}

func get[T Object](ctx context.Context, c Client, key Key, opts ReadOptions) (T, error) {
	var none T
	r, err := resourceOf[T](c)
	if err != nil {
		return none, err
	}
	return as[T](c.Get(ctx, r, key, opts))
}

// ListOf reads the objects selected by opts and the revision to watch from.
func ListOf[T Object](ctx context.Context, c Client, opts ReadOptions) ([]T, string, error) {
	r, err := resourceOf[T](c)
	if err != nil {
		return nil, "", err
	}
	l, err := c.List(ctx, r, opts)
	if err != nil {
		return nil, "", err
	}
	items := make([]T, len(l.Items))
	for i, o := range l.Items {
		t, ok := o.(T)
		if !ok {
			return nil, "", fmt.Errorf("cannot list %s as %T: item %d is %T", r, t, i, o)
		}
		items[i] = t
	}
	return items, l.Revision, nil
}

// WatchOf watches the resource of T. See Client.Watch.
func WatchOf[T Object](ctx context.Context, c Client, from string, opts ReadOptions) (Watch, error) {
	r, err := resourceOf[T](c)
	if err != nil {
		return nil, err
	}
	return c.Watch(ctx, r, from, opts)
}

// Create stores a new object and returns it as stored.
func Create[T Object](ctx context.Context, c Client, obj T) (T, error) {
	var none T
	r, err := c.ResourceOf(obj)
	if err != nil {
		return none, err
	}
	return as[T](c.Create(ctx, r, KeyOf(obj), obj, WriteOptions{}))
}

// Update replaces an object.
func Update[T Object](ctx context.Context, c Client, obj T) (T, error) {
	return update(ctx, c, obj, "")
}

// UpdateStatus replaces an object's status.
func UpdateStatus[T Object](ctx context.Context, c Client, obj T) (T, error) {
	return update(ctx, c, obj, "status")
}

func update[T Object](ctx context.Context, c Client, obj T, sub string) (T, error) {
	var none T
	r, err := c.ResourceOf(obj)
	if err != nil {
		return none, err
	}
	return as[T](c.Update(ctx, r, obj, WriteOptions{Subresource: sub}))
}

// Patch changes an object.
func Patch[T Object](ctx context.Context, c Client, namespace, name string, pt types.PatchType, body []byte, opts WriteOptions) (T, error) {
	var none T
	r, err := resourceOf[T](c)
	if err != nil {
		return none, err
	}
	return as[T](c.Patch(ctx, r, Key{namespace, name}, pt, body, opts))
}

// Delete deletes an object.
func Delete[T Object](ctx context.Context, c Client, namespace, name string, opts DeleteOptions) error {
	r, err := resourceOf[T](c)
	if err != nil {
		return err
	}
	return c.Delete(ctx, r, Key{namespace, name}, opts)
}

// Modify reads an object, lets change work on a copy, and writes it back,
// again from the read on conflict, until it succeeds or ctx ends. change
// returns false to leave the object as it is. sub is "" or "status".
func Modify[T Object](ctx context.Context, c Client, namespace, name, sub string, change func(T) (bool, error)) (T, error) {
	var none T
	for {
		cur, err := Get[T](ctx, c, namespace, name)
		if err != nil {
			return none, err
		}
		next := cur.DeepCopyObject().(T)
		if write, err := change(next); err != nil || !write {
			return cur, err
		}
		stored, err := update(ctx, c, next, sub)
		if !apierrors.IsConflict(err) {
			return stored, err
		}
		if ctx.Err() != nil {
			return none, ctx.Err()
		}
	}
}
