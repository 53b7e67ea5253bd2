package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"binnacle.io/core/client"
)

// objects reads what pods refer to, and follows what is mounted into them.
type objects struct {
	client client.Client

	mu      sync.Mutex
	follows map[followKey]*follow // guarded by mu
	wg      sync.WaitGroup
}

type followKey struct {
	resource client.Resource
	key      client.Key
}

// follow is the watch of one object for the pods that mount it.
type follow struct {
	pods   map[types.UID]func()
	cancel context.CancelFunc
}

func newObjects(c client.Client) *objects {
	return &objects{client: c, follows: map[followKey]*follow{}}
}

var (
	configMaps      = client.Resource{Resource: "configmaps"}
	secrets         = client.Resource{Resource: "secrets"}
	serviceAccounts = client.Resource{Resource: "serviceaccounts"}
)

// read tries local state first: what is there is good enough, what is missing
// may have been made a moment ago.
func read[T client.Object](ctx context.Context, c client.Client, namespace, name string) (T, error) {
	o, err := client.GetCached[T](ctx, c, namespace, name)
	if apierrors.IsNotFound(err) {
		return client.Get[T](ctx, c, namespace, name)
	}
	return o, err
}

// ConfigMap implements podspec.Lookup and volume.Objects.
func (o *objects) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return read[*corev1.ConfigMap](ctx, o.client, namespace, name)
}

// Secret implements podspec.Lookup and volume.Objects.
func (o *objects) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return read[*corev1.Secret](ctx, o.client, namespace, name)
}

// Services implements podspec.Lookup.
func (o *objects) Services(ctx context.Context, namespace string) ([]*corev1.Service, error) {
	list, _, err := client.ListOf[*corev1.Service](ctx, o.client, client.ReadOptions{Namespace: namespace, FromCache: true})
	if err != nil {
		return nil, fmt.Errorf("cannot list services of namespace %q: %w", namespace, err)
	}
	return list, nil
}

// Token implements volume.Objects.
func (o *objects) Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (string, time.Time, error) {
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	got, err := o.client.Create(ctx, serviceAccounts, client.Key{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}, req,
		client.WriteOptions{Subresource: "token"})
	if err != nil {
		return "", time.Time{}, err
	}
	tr, ok := got.(*authenticationv1.TokenRequest)
	if !ok {
		return "", time.Time{}, fmt.Errorf("cannot use %T as a TokenRequest", got)
	}
	return tr.Status.Token, tr.Status.ExpirationTimestamp.Time, nil
}

// mounted returns what a pod's volumes are made from.
func mounted(pod *corev1.Pod) []followKey {
	var out []followKey
	add := func(r client.Resource, name string) {
		out = append(out, followKey{r, client.Key{Namespace: pod.Namespace, Name: name}})
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.ConfigMap != nil:
			add(configMaps, v.ConfigMap.Name)
		case v.Secret != nil:
			add(secrets, v.Secret.SecretName)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					add(configMaps, s.ConfigMap.Name)
				}
				if s.Secret != nil {
					add(secrets, s.Secret.Name)
				}
			}
		}
	}
	return out
}

// watchFor calls changed whenever something mounted into the pod changes,
// until unwatch or the end of ctx.
func (o *objects) watchFor(ctx context.Context, pod *corev1.Pod, changed func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range mounted(pod) {
		f := o.follows[k]
		if f == nil {
			fctx, cancel := context.WithCancel(ctx)
			f = &follow{pods: map[types.UID]func(){}, cancel: cancel}
			o.follows[k] = f
			o.wg.Add(1)
			go func() {
				defer o.wg.Done()
				o.run(fctx, k)
			}()
		}
		f.pods[pod.UID] = changed
	}
}

func (o *objects) unwatch(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k, f := range o.follows {
		delete(f.pods, uid)
		if len(f.pods) == 0 {
			f.cancel()
			delete(o.follows, k)
		}
	}
}

func (o *objects) wait() { o.wg.Wait() }

// run watches one object. After an interruption its pods are told once, since
// a change may have been missed.
func (o *objects) run(ctx context.Context, k followKey) {
	for delay := time.Second; ctx.Err() == nil; delay = min(2*delay, time.Minute) {
		if err := o.watchOne(ctx, k); err == nil {
			delay = time.Second
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

func (o *objects) watchOne(ctx context.Context, k followKey) error {
	w, err := o.client.Watch(ctx, k.resource, "", client.ReadOptions{
		Namespace: k.key.Namespace, Fields: fields.OneTermEqualSelector("metadata.name", k.key.Name)})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		ev, err := w.Next(ctx)
		if err != nil {
			return nil
		}
		if ev.Type == client.Bookmark {
			continue
		}
		o.mu.Lock()
		var tell []func()
		if f := o.follows[k]; f != nil {
			for _, changed := range f.pods {
				tell = append(tell, changed)
			}
		}
		o.mu.Unlock()
		for _, changed := range tell {
			changed()
		}
	}
}
