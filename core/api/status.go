package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// optimisticLock is upstream's wording for a stale resourceVersion.
const optimisticLock = "the object has been modified; please apply your changes to the latest version and try again"

// statusOf maps any error to the Status that answers it.
func statusOf(err error) metav1.Status {
	var api apierrors.APIStatus
	var st metav1.Status
	switch {
	case errors.As(err, &api):
		st = api.Status()
		// A wrapped status error keeps what its wrappers say.
		if _, bare := err.(apierrors.APIStatus); !bare {
			st.Message = err.Error()
		}
	case errors.Is(err, context.DeadlineExceeded):
		st = apierrors.NewTimeoutError("the request did not complete within the allotted timeout", 0).Status()
	case errors.Is(err, context.Canceled):
		st = apierrors.NewTimeoutError("the request was canceled", 0).Status()
	default:
		st = apierrors.NewInternalError(err).Status()
		st.Message = "Internal error occurred: " + err.Error()
	}
	if st.Status == "" {
		st.Status = metav1.StatusFailure
	}
	if st.Code == 0 {
		st.Code = http.StatusInternalServerError
	}
	st.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return st
}

// asStatus makes sure that an in-process caller gets an apierrors.APIStatus or
// a context error.
func asStatus(err error) error {
	var api apierrors.APIStatus
	if err == nil || errors.As(err, &api) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return apierrors.NewInternalError(err)
}

func statusError(code int, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	}}
}

func badRequest(format string, args ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, args...))
}

func conflict(r schema.GroupResource, name, format string, args ...any) error {
	return apierrors.NewConflict(r, name, fmt.Errorf(format, args...))
}

func notAcceptable(accepted string) error {
	return statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"406: Not Acceptable\n\nAvailable representations: "+accepted)
}

func unsupportedMediaType(accepted string) error {
	return statusError(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		"the body of the request was in an unknown format - accepted media types include: "+accepted)
}

// unsupportedPatch is the answer to a PATCH of a kind that the path does not
// know.
func unsupportedPatch() error {
	return statusError(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType, "415: Unsupported Media Type")
}

func notImplemented(what string) error {
	return statusError(http.StatusNotImplemented, metav1.StatusReasonMethodNotAllowed, what+" is not implemented by this server")
}

// methodNotAllowed is upstream's answer to a method that a path does not have.
func methodNotAllowed() error {
	return statusError(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "the server does not allow this method on the requested resource")
}

// errNoPage is the answer to a path that is none of the API's: upstream's is a
// plain text.
var errNoPage = errors.New("404 page not found")

// pathNotFound is upstream's answer to a path nobody serves.
func pathNotFound() error {
	return statusError(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
}
