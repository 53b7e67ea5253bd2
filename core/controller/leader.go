package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"binnacle.io/core/client"
)

// Upstream's lease and timing (kube-controller-manager's defaults).
const (
	leaseNamespace = "kube-system"
	leaseName      = "kube-controller-manager"
	leaseFor       = 15 * time.Second
	renewEvery     = 2 * time.Second
	renewWithin    = 10 * time.Second
)

var errLostLease = errors.New("lost the lease")

// whileLeading waits for the lease, runs f while it is held, and gives it back
// when ctx ends.
func (m *Manager) whileLeading(ctx context.Context, f func(context.Context) error) error {
	if !m.acquire(ctx) {
		return nil
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- f(run) }()
	renewed := m.cfg.Now()
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			m.release(context.WithoutCancel(ctx))
			return err
		case <-tick.C:
			held, err := m.hold(ctx)
			switch {
			case held:
				renewed = m.cfg.Now()
			case err == nil, m.cfg.Now().Sub(renewed) > renewWithin:
				stop()
				return errors.Join(fmt.Errorf("cannot lead as %q: %w", m.cfg.Identity, errLostLease), <-done)
			}
		}
	}
}

func (m *Manager) acquire(ctx context.Context) bool {
	for {
		held, err := m.hold(ctx)
		if held {
			return true
		}
		if err != nil && ctx.Err() == nil {
			m.tel.Log.Warn("cannot acquire the lease", "lease", leaseNamespace+"/"+leaseName, "err", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(renewEvery):
		}
	}
}

// hold takes or renews the lease. Not held without an error means that
// somebody else has it.
func (m *Manager) hold(ctx context.Context) (bool, error) {
	now := metav1.NewMicroTime(m.cfg.Now())
	lease, err := client.Get[*coordv1.Lease](ctx, m.client, leaseNamespace, leaseName)
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, m.client, &coordv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: leaseNamespace, Name: leaseName},
			Spec:       m.leaseSpec(now, now, 0),
		})
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	holder, spec := ptr.Deref(lease.Spec.HolderIdentity, ""), lease.Spec
	mine := holder == m.cfg.Identity
	if !mine && holder != "" && spec.RenewTime != nil &&
		now.Sub(spec.RenewTime.Time) < time.Duration(ptr.Deref(spec.LeaseDurationSeconds, 0))*time.Second {
		return false, nil
	}
	next := lease.DeepCopy()
	acquired, transitions := now, ptr.Deref(spec.LeaseTransitions, 0)
	if mine && spec.AcquireTime != nil {
		acquired = *spec.AcquireTime
	} else if !mine {
		transitions++
	}
	next.Spec = m.leaseSpec(acquired, now, transitions)
	_, err = client.Update(ctx, m.client, next)
	return err == nil, err
}

func (m *Manager) leaseSpec(acquired, renewed metav1.MicroTime, transitions int32) coordv1.LeaseSpec {
	return coordv1.LeaseSpec{
		HolderIdentity:       ptr.To(m.cfg.Identity),
		LeaseDurationSeconds: ptr.To(int32(leaseFor / time.Second)),
		AcquireTime:          &acquired,
		RenewTime:            &renewed,
		LeaseTransitions:     &transitions,
	}
}

// release lets the next process lead at once instead of after the lease ran out.
func (m *Manager) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	_, err := client.Modify(ctx, m.client, leaseNamespace, leaseName, "", func(l *coordv1.Lease) (bool, error) {
		if ptr.Deref(l.Spec.HolderIdentity, "") != m.cfg.Identity {
			return false, nil
		}
		l.Spec.HolderIdentity = ptr.To("")
		l.Spec.LeaseDurationSeconds = ptr.To[int32](1)
		return true, nil
	})
	if err != nil {
		m.tel.Log.Info("cannot give the lease back", "err", err)
	}
}
