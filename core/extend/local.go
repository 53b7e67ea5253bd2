package extend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"binnacle.io/core/client"
	"binnacle.io/core/kind"
	"binnacle.io/core/telemetry"
)

// managedLabel marks the entries that this server keeps: "onstart" those it
// writes when it starts and leaves alone afterwards, "true" those it keeps as
// they are at all times.
const (
	managedLabel = "kube-aggregator.kubernetes.io/automanaged"
	onStart      = "onstart"
	always       = "true"
)

// LocalServices keeps an APIService for each served group version.
type LocalServices struct {
	kinds *kind.Catalogue
	c     client.Client
	tel   *telemetry.Component
}

// NewLocalServices returns one that writes through c, which needs all verbs on
// apiservices.
func NewLocalServices(kinds *kind.Catalogue, c client.Client, tel *telemetry.Component) *LocalServices {
	return &LocalServices{kinds, c, tel}
}

// Run works until ctx ends: the group versions there are when it begins are
// written once, later ones are kept and go when they are no longer served.
func (l *LocalServices) Run(ctx context.Context) error {
	disturbed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() { l.watch(ctx, disturbed) })
	defer watching.Wait()

	_, changed := l.kinds.Changes()
	first := l.served()
	const shortest, longest = time.Second, 30 * time.Second
	pause, starting := shortest, true
	for {
		var retry <-chan time.Time
		if err := l.keep(ctx, l.wanted(first), starting); err == nil {
			starting, pause = false, shortest
		} else if ctx.Err() == nil {
			l.tel.Log.Warn("cannot keep the local APIServices, will try again", "error", err, "after", pause)
			retry = time.After(pause)
			pause = min(2*pause, longest)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-retry:
		case <-disturbed:
		case <-changed:
			_, changed = l.kinds.Changes()
		}
	}
}

// watch tells of every change of an APIService, whoever made it.
func (l *LocalServices) watch(ctx context.Context, disturbed chan<- struct{}) {
	const pause = time.Second
	for ctx.Err() == nil {
		err := l.follow(ctx, disturbed)
		if ctx.Err() != nil {
			return
		}
		l.tel.Log.Debug("watch of APIServices ended", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (l *LocalServices) follow(ctx context.Context, disturbed chan<- struct{}) error {
	w, err := client.WatchOf[*apiregistrationv1.APIService](ctx, l.c, "", client.ReadOptions{})
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		if _, err := w.Next(ctx); err != nil {
			return err
		}
		select {
		case disturbed <- struct{}{}:
		default: // told already
		}
	}
}

// served are the group versions that discovery lists.
func (l *LocalServices) served() map[schema.GroupVersion]bool {
	out := map[schema.GroupVersion]bool{}
	for _, g := range l.kinds.Groups() {
		for _, v := range g.Versions {
			// The group of the entries themselves has none.
			if g.Name != apiregistrationv1.GroupName {
				out[schema.GroupVersion{Group: g.Name, Version: v.Version}] = true
			}
		}
	}
	return out
}

func (l *LocalServices) wanted(first map[schema.GroupVersion]bool) map[string]*apiregistrationv1.APIService {
	out := map[string]*apiregistrationv1.APIService{}
	for gv := range l.served() {
		s := &apiregistrationv1.APIService{}
		s.Name = gv.Version + "." + gv.Group
		s.Labels = map[string]string{managedLabel: always}
		if first[gv] {
			s.Labels[managedLabel] = onStart
		}
		s.Spec.Group, s.Spec.Version = gv.Group, gv.Version
		s.Spec.GroupPriorityMinimum, s.Spec.VersionPriority = priorities(gv)
		out[s.Name] = s
	}
	return out
}

// keep writes what is missing or differs and deletes what is served no longer.
// starting also does so for the entries that are left alone afterwards.
func (l *LocalServices) keep(ctx context.Context, wanted map[string]*apiregistrationv1.APIService, starting bool) error {
	list, _, err := client.ListOf[*apiregistrationv1.APIService](ctx, l.c, client.ReadOptions{})
	if err != nil {
		return err
	}
	ours := func(s *apiregistrationv1.APIService) bool {
		return s.Labels[managedLabel] == always || starting && s.Labels[managedLabel] == onStart
	}
	have := map[string]bool{}
	var errs []error
	for _, s := range list {
		have[s.Name] = true
		switch want := wanted[s.Name]; {
		case want != nil && ours(want) && s.Labels[managedLabel] != "": // without the label it is somebody's own
			_, err := client.Modify(ctx, l.c, "", s.Name, "", func(s *apiregistrationv1.APIService) (bool, error) {
				if s.Labels[managedLabel] == want.Labels[managedLabel] && apiequality.Semantic.DeepEqual(s.Spec, want.Spec) {
					return false, nil
				}
				if s.Labels == nil {
					s.Labels = map[string]string{}
				}
				s.Labels[managedLabel], s.Spec = want.Labels[managedLabel], want.Spec
				return true, nil
			})
			if err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("cannot update APIService %q: %w", s.Name, err))
			}
		case want == nil && ours(s):
			err := client.Delete[*apiregistrationv1.APIService](ctx, l.c, "", s.Name, client.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("cannot delete APIService %q: %w", s.Name, err))
			}
		}
	}
	for name, want := range wanted {
		if have[name] || !ours(want) {
			continue
		}
		if _, err := client.Create(ctx, l.c, want); err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("cannot create APIService %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
