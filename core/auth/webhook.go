package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// reviewer posts reviews to a server that a kubeconfig names.
type reviewer struct {
	url    string
	client *http.Client
}

const (
	// maxReviewBytes bounds what a webhook may answer.
	maxReviewBytes = 1 << 20
	// reviewTries and reviewPause are upstream's: 5 tries, from half a
	// second on by half more each.
	reviewTries = 5
	reviewPause = 500 * time.Millisecond
)

// newReviewer reads the kubeconfig. Its server is the whole URL of the hook.
func newReviewer(kubeconfig string, timeout time.Duration) (*reviewer, error) {
	if kubeconfig == "" {
		return nil, errors.New("kubeconfig is not set")
	}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("cannot use kubeconfig %s: %w", kubeconfig, err)
	}
	if u, err := url.Parse(cfg.Host); err != nil || u.Host == "" {
		return nil, fmt.Errorf("cannot use kubeconfig %s: its server %q is not a URL", kubeconfig, cfg.Host)
	}
	cfg.Timeout = timeout
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot use kubeconfig %s: %w", kubeconfig, err)
	}
	return &reviewer{cfg.Host, h}, nil
}

// reviewError is an answer that is no review.
type reviewError struct {
	code int
	text string
}

func (e *reviewError) Error() string {
	return fmt.Sprintf("the webhook answered %s: %.200s", strconv.Itoa(e.code), e.text)
}

// passing reports whether trying again may help.
func passing(err error) bool {
	var answered *reviewError
	if errors.As(err, &answered) {
		return answered.code == http.StatusTooManyRequests || answered.code >= 500
	}
	return true // it was not reached
}

// review posts ask and reads the answer into it. observe is told of each try.
func (r *reviewer) review(ctx context.Context, ask any, observe func(error, time.Duration)) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return fmt.Errorf("cannot encode a review for %s: %w", r.url, err)
	}
	pause := reviewPause
	for try := 1; ; try++ {
		start := time.Now()
		err := r.post(ctx, body, ask)
		observe(err, time.Since(start))
		if err == nil || try == reviewTries || !passing(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause + rand.N(pause/5)):
		}
		pause += pause / 2
	}
}

func (r *reviewer) post(ctx context.Context, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot ask webhook %s: %w", r.url, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask webhook: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReviewBytes+1))
	if err != nil {
		return fmt.Errorf("cannot read the answer of webhook %s: %w", r.url, err)
	}
	if len(text) > maxReviewBytes {
		return fmt.Errorf("cannot use the answer of webhook %s: it has more than %d bytes", r.url, maxReviewBytes)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &reviewError{resp.StatusCode, string(text)}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &reviewError{http.StatusBadRequest, "not a review: " + err.Error()}
	}
	return nil
}
