package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	rpctypes "go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

// ErrRevisionOnCreate refuses a new object that carries a resourceVersion, in
// upstream's words.
var ErrRevisionOnCreate = errors.New("resourceVersion should not be set on objects to be created")

// ReasonInsufficientStorage is the Status reason when etcd's quota is used up
// or its disk is full (code 507).
const ReasonInsufficientStorage metav1.StatusReason = "InsufficientStorage"

func notServed(gr client.Resource) error {
	return apierrors.NewNotFound(gr, "")
}

func notFound(gr client.Resource, key client.Key) error {
	return apierrors.NewNotFound(gr, key.Name)
}

func tooOld(from, oldest int64) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, oldest))
}

func listExpired() error {
	return apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
}

func tooLarge(asked, current int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", asked, current), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type:    metav1.CauseTypeResourceVersionTooLarge,
		Message: "Too large resource version",
	}}
	return err
}

// errOptimisticLock is upstream's message for a stale update.
var errOptimisticLock = errors.New("the object has been modified; please apply your changes to the latest version and try again")

func uidConflict(gr client.Resource, key client.Key, want, have types.UID) error {
	return apierrors.NewConflict(gr, key.Name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", want, have)) //nolint:staticcheck // upstream's text
}

func errClosing() error { return apierrors.NewServiceUnavailable("the store is closing") }

// translate turns an error of etcd's client into what API clients are told.
func translate(ctx context.Context, err error, doing string, quota int64) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("cannot %s: %w", doing, ctx.Err())
	}
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace):
		return insufficientStorage(fmt.Sprintf("cannot %s: %s", doing, overQuota(quota)))
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("cannot %s: etcd: request is too large", doing))
	case errors.Is(err, context.DeadlineExceeded), unavailable(err):
		return apierrors.NewServiceUnavailable(fmt.Sprintf("cannot %s: etcd does not answer: %v", doing, err))
	}
	return apierrors.NewInternalError(fmt.Errorf("cannot %s: %w", doing, err))
}

func insufficientStorage(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInsufficientStorage, Reason: ReasonInsufficientStorage, Message: message,
	}}
}

// overQuota says so; a quota of 0 is someone else's.
func overQuota(quota int64) string {
	if quota == 0 {
		return "the etcd database has reached its quota (mvcc: database space exceeded); delete objects, compact and defragment it, or raise the quota"
	}
	return fmt.Sprintf("the etcd database has reached its quota of %d bytes; delete objects, or raise the quota", quota)
}

func unavailable(err error) bool {
	code := status.Code(err)
	var ee rpctypes.EtcdError
	if errors.As(err, &ee) {
		code = ee.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}
