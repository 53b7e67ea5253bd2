package main

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime"
)

// bareEtcd writes what the write benchmark writes straight to an etcd of its
// own, in this process, with fsync. Its clients have a connection each, without
// TLS.
func (b *bench) bareEtcd(ctx context.Context) error {
	objects := 4000
	if b.quick {
		objects = 1000
	}
	values, err := b.storedValues(ctx)
	if err != nil {
		return err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "bench", filepath.Join(b.scratch, "etcd")
	loopback := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls, cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, loopback, loopback
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("cannot start an etcd: %w", err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case <-ctx.Done():
		return ctx.Err()
	}
	var etcds [clients]*clientv3.Client
	for i := range etcds {
		etcds[i], err = clientv3.New(clientv3.Config{Endpoints: []string{server.Clients[0].Addr().String()}, Context: ctx, Logger: zap.NewNop()})
		if err != nil {
			return fmt.Errorf("cannot reach an etcd: %w", err)
		}
		defer etcds[i].Close()
	}
	for range b.runs {
		for _, kind := range []string{"pods", "configmaps", "leases"} {
			value := values[kind]
			put := func(ctx context.Context, i int) error {
				_, err := etcds[i%clients].Put(ctx, fmt.Sprintf("/registry/%s/bench/object-%06d", kind, i), value)
				return err
			}
			for _, step := range []struct {
				name string
				do   func(context.Context, int) error
			}{{"create", put}, {"update", put}, {"delete", func(ctx context.Context, i int) error {
				_, err := etcds[i%clients].Delete(ctx, fmt.Sprintf("/registry/%s/bench/object-%06d", kind, i))
				return err
			}}} {
				start := time.Now()
				if err := each(ctx, objects, step.do); err != nil {
					return fmt.Errorf("cannot %s %s in a bare etcd: %w", step.name, kind, err)
				}
				b.add("etcd/"+kind+"."+step.name, "ops/s", binnacle, float64(objects)/time.Since(start).Seconds())
			}
		}
	}
	return nil
}

// storedValues are the bytes that Binnacle would store of one object of each
// kind: what it answers to a creation it does not carry out.
func (b *bench) storedValues(ctx context.Context) (map[string]string, error) {
	c, err := open(b.binnacle, b.binnacleProc)
	if err != nil {
		return nil, err
	}
	defer c.close()
	values := map[string]string{}
	for resource, o := range map[string]runtime.Object{"pods": pod(0), "configmaps": configMap(0), "leases": lease(0)} {
		group := "/api/v1"
		if resource == "leases" {
			group = "/apis/coordination.k8s.io/v1"
		}
		data, err := c.dryCreate(ctx, group+"/namespaces/default/"+resource, o)
		if err != nil {
			return nil, fmt.Errorf("cannot see how %s are stored: %w", resource, err)
		}
		values[resource] = string(data)
	}
	return values, nil
}

// each calls do for 0..n-1 from the usual number of clients until one fails.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}
