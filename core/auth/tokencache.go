package auth

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/apimachinery/pkg/util/cache"
)

const (
	cachedTokens = 4096
	// fetchWithin bounds an authentication that several requests wait for.
	fetchWithin = 30 * time.Second
)

// tokenCache remembers the answers of a slow verifier, under a hash of the
// token. Errors are not remembered.
type tokenCache struct {
	from    TokenVerifier
	ttl     time.Duration
	answers *cache.LRUExpireCache
	flights singleflight.Group
	m       *Metrics
}

type tokenAnswer struct {
	user      *User
	audiences []string
	ok        bool
}

func newTokenCache(from TokenVerifier, ttl time.Duration, m *Metrics) *tokenCache {
	return &tokenCache{from: from, ttl: ttl, answers: cache.NewLRUExpireCache(cachedTokens), m: m}
}

func tokenKey(token string, audiences []string) string {
	h := sha256.New()
	for _, s := range append([]string{token}, audiences...) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	return string(h.Sum(nil))
}

func (c *tokenCache) VerifyToken(ctx context.Context, token string, audiences []string) (*User, []string, bool, error) {
	start, key := time.Now(), tokenKey(token, audiences)
	if a, ok := c.answers.Get(key); ok {
		c.observe("hit", start)
		answer := a.(tokenAnswer)
		return answer.user, answer.audiences, answer.ok, nil
	}
	defer c.observe("miss", start)
	defer c.waiting("blocked")()
	result := c.flights.DoChan(key, func() (any, error) {
		// Others wait for the same answer: the one who came first going away
		// must not end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchWithin)
		defer cancel()
		defer c.waiting("in_flight")()
		u, matched, ok, err := c.from.VerifyToken(ctx, token, audiences)
		answer := tokenAnswer{u, matched, ok}
		status := "error"
		if err == nil {
			status = "ok"
			c.answers.Add(key, answer, c.ttl)
		}
		if c.m != nil {
			c.m.cacheFetches.WithLabelValues(status).Inc()
		}
		return answer, err
	})
	select {
	case r := <-result:
		answer := r.Val.(tokenAnswer)
		return answer.user, answer.audiences, answer.ok, r.Err
	case <-ctx.Done():
		return nil, nil, false, ctx.Err()
	}
}

func (c *tokenCache) observe(status string, start time.Time) {
	if c.m != nil {
		c.m.cacheRequests.WithLabelValues(status).Inc()
		c.m.cacheSeconds.WithLabelValues(status).Observe(time.Since(start).Seconds())
	}
}

// waiting counts one that waits until the result is called.
func (c *tokenCache) waiting(status string) func() {
	if c.m == nil {
		return func() {}
	}
	g := c.m.cacheActive.WithLabelValues(status)
	g.Inc()
	return g.Dec
}
