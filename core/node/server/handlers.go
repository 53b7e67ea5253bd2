package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/node/logs"
	"binnacle.io/core/node/runtime"
)

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	if err := s.node.Healthy(); err != nil && r.PathValue("check") != "ping" {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, "ok")
}

func (s *Server) pods(w http.ResponseWriter, r *http.Request) {
	s.podList(w, s.node.Pods())
}

func (s *Server) runningPods(w http.ResponseWriter, r *http.Request) {
	var out []*corev1.Pod
	for _, p := range s.node.Pods() {
		if p.Status.Phase == corev1.PodRunning {
			out = append(out, p)
		}
	}
	s.podList(w, out)
}

func (s *Server) podList(w http.ResponseWriter, pods []*corev1.Pod) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: make([]corev1.Pod, len(pods))}
	for i, p := range pods {
		list.Items[i] = *p
	}
	writeJSON(w, list)
}

func (s *Server) configz(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, map[string]any{"kubeletconfig": s.cfg.Config})
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b)
}

// find returns the pod of the request, or answers that there is none.
func (s *Server) find(w http.ResponseWriter, r *http.Request) (Pod, bool) {
	p, ok := s.node.Pod(r.PathValue("namespace"), r.PathValue("pod"))
	if uid := r.PathValue("uid"); ok && uid != "" && string(p.Pod.UID) != uid {
		ok = false
	}
	if !ok {
		http.Error(w, fmt.Sprintf("pod %q does not exist", r.PathValue("pod")), http.StatusNotFound)
	}
	return p, ok
}

// instances returns a container's instances, newest first.
func (p Pod) instances(name string) []runtime.Container {
	var out []runtime.Container
	for _, c := range p.Containers {
		if c.Name == name {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b runtime.Container) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return out
}

func (p Pod) has(name string) bool {
	for i := range p.Pod.Spec.Containers {
		if p.Pod.Spec.Containers[i].Name == name {
			return true
		}
	}
	for i := range p.Pod.Spec.InitContainers {
		if p.Pod.Spec.InitContainers[i].Name == name {
			return true
		}
	}
	for i := range p.Pod.Spec.EphemeralContainers {
		if p.Pod.Spec.EphemeralContainers[i].Name == name {
			return true
		}
	}
	return false
}

// waitReason says why a container has not started, by its status.
func (p Pod) waitReason(name string) string {
	st := &p.Pod.Status
	for _, list := range [][]corev1.ContainerStatus{st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name && list[i].State.Waiting != nil {
				return list[i].State.Waiting.Reason
			}
		}
	}
	return "ContainerCreating"
}

func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) {
	p, ok := s.find(w, r)
	if !ok {
		return
	}
	name := r.PathValue("container")
	if !p.has(name) {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", name, p.Pod.Name), http.StatusNotFound)
		return
	}
	opts, err := logOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	c, err := p.logged(name, opts.Previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Transfer-Encoding", "chunked")
	if opts.Follow {
		http.NewResponseController(w).Flush()
	}
	running := func() bool {
		now, ok := s.node.Pod(p.Pod.Namespace, p.Pod.Name)
		return ok && slices.ContainsFunc(now.Containers, func(o runtime.Container) bool {
			return o.ID == c.ID && o.State != runtime.Exited
		})
	}
	if err := logs.Read(r.Context(), c.LogPath, logs.OptionsOf(opts, time.Now()), w, running); err != nil && r.Context().Err() == nil {
		// The status is sent; the reader sees the text, as upstream's does.
		fmt.Fprintln(w, err)
	}
}

// logged returns the instance whose log is asked for.
func (p Pod) logged(name string, previous bool) (runtime.Container, error) {
	list := p.instances(name)
	if previous {
		// Of a container that waits for its restart the newest instance is
		// the previous one.
		for i, c := range list {
			if c.State == runtime.Exited && (i > 0 || p.restarting(name)) {
				return c, nil
			}
		}
		return runtime.Container{}, fmt.Errorf("previous terminated container %q in pod %q not found", name, p.Pod.Name)
	}
	if len(list) == 0 || list[0].LogPath == "" || list[0].State == runtime.Created {
		return runtime.Container{}, fmt.Errorf("container %q in pod %q is waiting to start: %s", name, p.Pod.Name, p.waitReason(name))
	}
	return list[0], nil
}

func (p Pod) restarting(name string) bool {
	for _, cs := range p.Pod.Status.ContainerStatuses {
		if cs.Name == name {
			return cs.State.Waiting != nil
		}
	}
	return false
}

func logOptions(r *http.Request) (*corev1.PodLogOptions, error) {
	q := r.URL.Query()
	o := &corev1.PodLogOptions{}
	var err error
	flag := func(name string, to *bool) {
		if v := q.Get(name); v != "" && err == nil {
			*to, err = strconv.ParseBool(v)
		}
	}
	number := func(name string, to **int64) {
		if v := q.Get(name); v != "" && v != "all" && err == nil {
			var n int64
			if n, err = strconv.ParseInt(v, 10, 64); err == nil && n < 0 {
				err = fmt.Errorf("invalid %s %q: must be greater than or equal to 0", name, v)
			}
			*to = &n
		}
	}
	flag("follow", &o.Follow)
	flag("previous", &o.Previous)
	flag("timestamps", &o.Timestamps)
	number("tailLines", &o.TailLines)
	number("limitBytes", &o.LimitBytes)
	number("sinceSeconds", &o.SinceSeconds)
	if v := q.Get("sinceTime"); v != "" && err == nil {
		var t time.Time
		if t, err = time.Parse(time.RFC3339, v); err == nil {
			mt := metav1.NewTime(t)
			o.SinceTime = &mt
		}
	}
	if v := q.Get("stream"); v != "" {
		o.Stream = &v
	}
	return o, err
}
