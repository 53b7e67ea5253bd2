package api

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"binnacle.io/core/client"
)

func (c *call) sendWarnings(q *request) {
	c.w.Header().Del("Warning")
	for _, w := range q.warnings {
		if h, ok := warningHeader(w); ok {
			c.w.Header().Add("Warning", h)
		}
	}
}

// respond writes the object a verb answered.
func (s *Server) respond(c *call, q *request, code int, r result) (err error) {
	f, err := negotiate(c.r, metaTransform(q.verb))
	if err != nil {
		return err
	}
	start := time.Now()
	defer func() { s.encoded(c, start, err) }()
	c.sendWarnings(q)
	b := s.body(c, code, f.contentType(false))
	switch {
	case f.as == "Table":
		table, err := s.table(q, c, f, []client.Object{r.object}, metav1.ListMeta{ResourceVersion: r.object.GetResourceVersion()}, true)
		if err != nil {
			return err
		}
		return s.writeObject(b, f, table)
	case f.as != "":
		return s.writeObject(b, f, partial(r.object, f.asVersion))
	case f.media == mediaYAML || f.pretty:
		out, err := q.as.fromHub(r.object)
		if err != nil {
			return err
		}
		return s.writeObject(b, f, out)
	}
	data, err := s.rendering(q.as, f.media).result(r)
	if err != nil {
		return err
	}
	return clientGone(b.whole(data))
}

// respondObject writes an object that is no resource of a kind: Status, Scale,
// reviews.
func (s *Server) respondObject(c *call, q *request, code int, o runtime.Object) error {
	// A client that asks for a Table gets a Status as it is; nothing else
	// here has rows.
	st, status := o.(*metav1.Status)
	if status {
		c.audit.Status = st.DeepCopy()
	}
	f, err := negotiate(c.r, func(as, g, v string) bool { return status && as == "Table" && metaTransform("get")(as, g, v) })
	if err != nil {
		return err
	}
	if q != nil {
		c.sendWarnings(q)
	}
	return s.writeObject(s.body(c, code, f.contentType(false)), f, o)
}

func (s *Server) writeObject(b *body, f format, o runtime.Object) error {
	data, err := s.codecs.encode(o, f.media, f.pretty)
	if err != nil {
		return err
	}
	return clientGone(b.whole(data))
}

// clientGone drops errors of writing to the client: there is nobody to tell.
func clientGone(error) error { return nil }

// respondUnstored writes objects that are not entries of the store.
func (s *Server) respondUnstored(c *call, q *request, revision int64, objects []client.Object) error {
	f, err := negotiate(c.r, metaTransform(q.verb))
	if err != nil {
		return err
	}
	c.sendWarnings(q)
	b := s.body(c, http.StatusOK, f.contentType(false))
	meta := metav1.ListMeta{ResourceVersion: strconv.FormatInt(revision, 10)}
	switch {
	case f.as == "Table":
		table, err := s.table(q, c, f, objects, meta, true)
		if err != nil {
			return err
		}
		return s.writeObject(b, f, table)
	case f.as != "":
		list := &metav1.PartialObjectMetadataList{ListMeta: meta, Items: []metav1.PartialObjectMetadata{}}
		list.APIVersion, list.Kind = "meta.k8s.io/"+f.asVersion, "PartialObjectMetadataList"
		for _, o := range objects {
			list.Items = append(list.Items, *partial(o, f.asVersion))
		}
		return s.writeObject(b, f, list)
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(q.as.listKind())
	list.SetResourceVersion(meta.ResourceVersion)
	for _, o := range objects {
		out, err := q.as.fromHub(o)
		if err != nil {
			return err
		}
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(out)
		if err != nil {
			return fmt.Errorf("cannot encode %s: %w", client.KeyOf(o), err)
		}
		list.Items = append(list.Items, unstructured.Unstructured{Object: m})
	}
	if !f.protobuf() {
		return s.writeObject(b, f, list)
	}
	typed, err := s.kinds.Scheme().New(q.as.listKind())
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(list.UnstructuredContent(), typed, false)
	}
	if err != nil {
		return fmt.Errorf("cannot encode list of %s: %w", q.gr(), err)
	}
	return s.writeObject(b, f, typed)
}

// partial is the object's metadata alone.
func partial(o client.Object, version string) *metav1.PartialObjectMetadata {
	p := &metav1.PartialObjectMetadata{ObjectMeta: objectMeta(o)}
	p.APIVersion, p.Kind = "meta.k8s.io/"+version, "PartialObjectMetadata"
	return p
}

func objectMeta(o client.Object) metav1.ObjectMeta {
	if a, ok := o.(metav1.ObjectMetaAccessor); ok {
		if m, ok := a.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return *m
		}
	}
	return metav1.ObjectMeta{
		Name: o.GetName(), GenerateName: o.GetGenerateName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
		ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(), CreationTimestamp: o.GetCreationTimestamp(),
		DeletionTimestamp: o.GetDeletionTimestamp(), DeletionGracePeriodSeconds: o.GetDeletionGracePeriodSeconds(),
		Labels: o.GetLabels(), Annotations: o.GetAnnotations(), OwnerReferences: o.GetOwnerReferences(),
		Finalizers: o.GetFinalizers(), ManagedFields: o.GetManagedFields(),
	}
}
