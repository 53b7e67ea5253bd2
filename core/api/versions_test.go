package api_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"binnacle.io/core/api/apitest"
)

// Events are v1 in two groups: each client gets its own, whichever was asked
// first, in either encoding.
func TestOneVersionNameInTwoGroups(t *testing.T) {
	s := apitest.Start(t)
	ctx := t.Context()
	for _, media := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		cfg := rest.CopyConfig(s.REST)
		cfg.ContentType = media
		k := kubernetes.NewForConfigOrDie(cfg)
		made, err := k.CoreV1().Events("default").Create(ctx, &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "e", Namespace: "default"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}, Message: "said",
		}, metav1.CreateOptions{})
		if err != nil || made.ResourceVersion == "" || made.Message != "said" {
			t.Fatalf("%s: made %+v, %v", media, made, err)
		}
		other, err := k.EventsV1().Events("default").Get(ctx, made.Name, metav1.GetOptions{})
		if err != nil || other.ResourceVersion != made.ResourceVersion || other.Note != "said" {
			t.Errorf("%s: in the other group %+v, %v", media, other, err)
		}
		list, err := k.EventsV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatalf("%s: %v", media, err)
		}
		for _, e := range list.Items {
			if e.Note != "said" {
				t.Errorf("%s: listed %+v", media, e)
			}
		}
		next, err := k.EventsV1().Events("default").Create(ctx, &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "e", Namespace: "default"}, EventTime: metav1.NowMicro(), Regarding: corev1.ObjectReference{Namespace: "default"},
			ReportingController: "c", ReportingInstance: "i", Action: "a", Reason: "r", Type: "Normal", Note: "said",
		}, metav1.CreateOptions{})
		if err != nil || next.ResourceVersion == "" || next.Note != "said" {
			t.Errorf("%s: made %+v, %v", media, next, err)
		}
	}
}
