package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// result counts requests.
type result struct{ sent, answered, failed, skipped int64 }

func (r result) String() string {
	s := fmt.Sprintf("%d requests, %d answered", r.sent, r.answered)
	if r.failed > 0 {
		s += fmt.Sprintf(", %d failed", r.failed)
	}
	if r.skipped > 0 {
		s += fmt.Sprintf(", %d not sent: too many were still waiting", r.skipped)
	}
	return s
}

// maxWaiting bounds the requests under way.
const maxWaiting = 64

// sendLoad sends requests at a steady rate, each on a connection of its own, so
// that every one is balanced anew.
func sendLoad(ctx context.Context, url string, rate int, d time.Duration) result {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var answered, failed atomic.Int64
	var r result
	var running sync.WaitGroup
	slots := make(chan struct{}, maxWaiting)
	tick := time.NewTicker(time.Second / time.Duration(max(rate, 1)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			running.Wait()
			r.answered, r.failed = answered.Load(), failed.Load()
			return r
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			r.skipped++
			continue
		}
		r.sent++
		running.Go(func() {
			defer func() { <-slots }()
			if get(client, url) {
				answered.Add(1)
			} else {
				failed.Add(1)
			}
		})
	}
}

func get(client *http.Client, url string) bool {
	resp, err := client.Get(url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}
