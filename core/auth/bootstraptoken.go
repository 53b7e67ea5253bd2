package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/client"
)

// The format of bootstrap tokens: id.secret, kept in the Secret
// kube-system/bootstrap-token-<id>.
const (
	BootstrapTokenType   corev1.SecretType = "bootstrap.kubernetes.io/token"
	BootstrapTokenPrefix                   = "bootstrap-token-"
	GroupBootstrappers                     = "system:bootstrappers"
	bootstrapUserPrefix                    = "system:bootstrap:"
	bootstrapTokenBytes                    = 6 + 1 + 16
)

// The keys of the Secret.
const (
	BootstrapTokenID            = "token-id"
	BootstrapTokenSecret        = "token-secret"
	BootstrapTokenExpiration    = "expiration" // RFC 3339
	BootstrapTokenDescription   = "description"
	BootstrapTokenGroups        = "auth-extra-groups"
	BootstrapTokenSigns         = "usage-bootstrap-signing"
	BootstrapTokenAuthenticates = "usage-bootstrap-authentication"
)

// BootstrapTokens knows the tokens by which new nodes join.
type BootstrapTokens struct {
	audiences []string
	now       func() time.Time
	token     *regexp.Regexp
	group     *regexp.Regexp
	reader    atomic.Pointer[client.Client]
}

// NewBootstrapTokens returns the verifier. It knows no token before Use. A nil
// now means time.Now.
func NewBootstrapTokens(audiences []string, now func() time.Time) *BootstrapTokens {
	if now == nil {
		now = time.Now
	}
	return &BootstrapTokens{
		audiences: audiences, now: now,
		token: regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`), group: regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`),
	}
}

// Use gives the verifier the client through which it reads Secrets.
func (b *BootstrapTokens) Use(c client.Client) { b.reader.Store(&c) }

// VerifyToken implements TokenVerifier. Whatever is wrong with a token, it is
// unknown, as upstream has it.
func (b *BootstrapTokens) VerifyToken(ctx context.Context, token string, audiences []string) (*User, []string, bool, error) {
	matched := intersection(audiences, b.audiences)
	if len(token) != bootstrapTokenBytes || len(matched) == 0 {
		return nil, nil, false, nil
	}
	parts := b.token.FindStringSubmatch(token)
	p := b.reader.Load()
	if parts == nil || p == nil {
		return nil, nil, false, nil
	}
	secret, err := client.GetCached[*corev1.Secret](ctx, *p, metav1.NamespaceSystem, BootstrapTokenPrefix+parts[1])
	if apierrors.IsNotFound(err) {
		return nil, nil, false, nil
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("cannot look up bootstrap token %q: %w", parts[1], err)
	}
	u, ok := b.judge(secret, parts[1], parts[2])
	if !ok {
		return nil, nil, false, nil
	}
	return u, matched, true, nil
}

func (b *BootstrapTokens) judge(s *corev1.Secret, id, key string) (*User, bool) {
	data := func(name string) string { return string(s.Data[name]) }
	if s.DeletionTimestamp != nil || s.Type != BootstrapTokenType ||
		subtle.ConstantTimeCompare(s.Data[BootstrapTokenSecret], []byte(key)) != 1 || data(BootstrapTokenID) != id ||
		data(BootstrapTokenAuthenticates) != "true" {
		return nil, false
	}
	if _, expired := BootstrapTokenExpires(s, b.now()); expired {
		return nil, false
	}
	groups := []string{GroupBootstrappers}
	if extra := data(BootstrapTokenGroups); extra != "" {
		for g := range strings.SplitSeq(extra, ",") {
			if !b.group.MatchString(g) {
				return nil, false
			}
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	return &User{Name: bootstrapUserPrefix + id, Groups: slices.Compact(groups)}, true
}

// BootstrapTokenExpires says how long a bootstrap token is still good: forever
// is 0 and false. A time that cannot be read has passed.
func BootstrapTokenExpires(s *corev1.Secret, now time.Time) (in time.Duration, expired bool) {
	text := string(s.Data[BootstrapTokenExpiration])
	if text == "" {
		return 0, false
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || !at.After(now) {
		return 0, true
	}
	return at.Sub(now), false
}
