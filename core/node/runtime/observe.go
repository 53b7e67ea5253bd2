package runtime

import (
	"context"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Observe returns the sandboxes and containers of one pod, or of all pods when
// uid is empty. Details of a container that cannot change any more are asked
// for once.
func (c *CRI) Observe(ctx context.Context, uid types.UID) ([]Sandbox, []Container, error) {
	var sel map[string]string
	if uid != "" {
		sel = map[string]string{LabelPodUID: string(uid)}
	}
	sl, err := call(ctx, c, "list_podsandbox", c.rt.ListPodSandbox, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{LabelSelector: sel}})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list sandboxes: %w", err)
	}
	cl, err := call(ctx, c, "list_containers", c.rt.ListContainers, &cri.ListContainersRequest{Filter: &cri.ContainerFilter{LabelSelector: sel}})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list containers: %w", err)
	}
	boxes := make([]Sandbox, 0, len(sl.Items))
	byID := map[string]PodID{}
	for _, s := range sl.Items {
		box, ok, err := c.sandbox(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			boxes = append(boxes, box)
			byID[box.ID] = box.Pod
		}
	}
	cs := make([]Container, 0, len(cl.Containers))
	for _, lc := range cl.Containers {
		ct, ok, err := c.container(ctx, lc)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			cs = append(cs, ct)
		}
	}
	return boxes, cs, nil
}

func (c *CRI) sandbox(ctx context.Context, s *cri.PodSandbox) (Sandbox, bool, error) {
	ready := s.State == cri.PodSandboxState_SANDBOX_READY
	if box, ok := c.seen.sandbox(s.Id, ready); ok {
		return box, true, nil
	}
	r, err := call(ctx, c, "podsandbox_status", c.rt.PodSandboxStatus, &cri.PodSandboxStatusRequest{PodSandboxId: s.Id})
	if IsNotFound(err) {
		return Sandbox{}, false, nil
	}
	if err != nil {
		return Sandbox{}, false, fmt.Errorf("cannot read the status of sandbox %q: %w", s.Id, err)
	}
	st := r.Status
	box := Sandbox{
		ID: st.Id, Pod: podID(st.Metadata), Attempt: st.GetMetadata().GetAttempt(),
		Ready:       st.State == cri.PodSandboxState_SANDBOX_READY,
		CreatedAt:   time.Unix(0, st.CreatedAt),
		HostNetwork: st.GetLinux().GetNamespaces().GetOptions().GetNetwork() == cri.NamespaceMode_NODE,
	}
	if ip := st.GetNetwork().GetIp(); ip != "" {
		box.IPs = append(box.IPs, ip)
		for _, more := range st.Network.AdditionalIps {
			box.IPs = append(box.IPs, more.Ip)
		}
	}
	c.seen.putSandbox(box)
	return box, true, nil
}

func (c *CRI) container(ctx context.Context, lc *cri.Container) (Container, bool, error) {
	if ct, ok := c.seen.container(lc.Id, stateOf(lc.State)); ok {
		return ct, true, nil
	}
	r, err := call(ctx, c, "container_status", c.rt.ContainerStatus, &cri.ContainerStatusRequest{ContainerId: lc.Id})
	if IsNotFound(err) {
		return Container{}, false, nil
	}
	if err != nil {
		return Container{}, false, fmt.Errorf("cannot read the status of container %q: %w", lc.Id, err)
	}
	st := r.Status
	ct := Container{
		ID: st.Id, SandboxID: lc.PodSandboxId,
		Pod:  PodID{UID: types.UID(st.Labels[LabelPodUID]), Namespace: st.Labels[LabelPodNamespace], Name: st.Labels[LabelPodName]},
		Name: st.Labels[LabelContainerName], Type: ContainerType(st.Labels[LabelContainerType]),
		Attempt: st.GetMetadata().GetAttempt(), State: stateOf(st.State),
		CreatedAt: nanoTime(st.CreatedAt), StartedAt: nanoTime(st.StartedAt), FinishedAt: nanoTime(st.FinishedAt),
		ExitCode: st.ExitCode, Reason: st.Reason, Message: st.Message,
		Image: st.GetImage().GetUserSpecifiedImage(), ImageID: st.ImageRef, LogPath: st.LogPath,
		Hash: st.Annotations[AnnotationHash], Annotations: maps.Clone(st.Annotations),
	}
	if ct.Image == "" {
		ct.Image = st.GetImage().GetImage()
	}
	if ct.State == Exited {
		if msg := terminationMessage(ct); msg != "" {
			ct.Message = msg
		}
	}
	c.seen.putContainer(ct)
	return ct, true, nil
}

// Limits of termination messages, upstream's.
const (
	maxMessageFile = 4096
	maxMessageLog  = 2048
	maxLogLines    = 80
)

// terminationMessage reads what an exited container left at its termination
// message path or, by policy, at the end of its log. There may be nothing.
func terminationMessage(ct Container) string {
	if f := ct.Annotations[AnnotationMessageFile]; f != "" {
		if msg := readHead(f, maxMessageFile); msg != "" {
			return msg
		}
	}
	if ct.Annotations[AnnotationMessagePol] == "FallbackToLogsOnError" && ct.ExitCode != 0 {
		return logTail(ct.LogPath, maxMessageLog, maxLogLines)
	}
	return ""
}

func readHead(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, limit)
	n, _ := f.Read(b)
	return string(b[:n])
}

func podID(m *cri.PodSandboxMetadata) PodID {
	return PodID{UID: types.UID(m.GetUid()), Namespace: m.GetNamespace(), Name: m.GetName()}
}

func nanoTime(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func stateOf(s cri.ContainerState) State {
	switch s {
	case cri.ContainerState_CONTAINER_CREATED:
		return Created
	case cri.ContainerState_CONTAINER_RUNNING:
		return Running
	case cri.ContainerState_CONTAINER_EXITED:
		return Exited
	}
	return Unknown
}

// statusCache keeps details while the state they were read in lasts: the
// fields of interest change only with the state.
type statusCache struct {
	mu         sync.Mutex
	boxes      map[string]Sandbox   // guarded by mu
	containers map[string]Container // guarded by mu
}

func newStatusCache() *statusCache {
	return &statusCache{boxes: map[string]Sandbox{}, containers: map[string]Container{}}
}

func (s *statusCache) sandbox(id string, ready bool) (Sandbox, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	box, ok := s.boxes[id]
	return box, ok && box.Ready == ready
}

// putSandbox keeps a sandbox once its addresses are known.
func (s *statusCache) putSandbox(box Sandbox) {
	if len(box.IPs) == 0 && !box.HostNetwork && box.Ready {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boxes[box.ID] = box
}

func (s *statusCache) forgetSandbox(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.boxes, id)
	for k, c := range s.containers {
		if c.SandboxID == id {
			delete(s.containers, k)
		}
	}
}

func (s *statusCache) container(id string, st State) (Container, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ct, ok := s.containers[id]
	return ct, ok && ct.State == st
}

func (s *statusCache) putContainer(ct Container) {
	if ct.State != Running && ct.State != Exited {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.containers[ct.ID] = ct
}

func (s *statusCache) forgetContainer(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
}
