package dns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy/caddyfile"
	mdns "github.com/miekg/dns"
)

// adapt turns the users' Corefile into the one CoreDNS gets on this node:
//
//   - a server block on port 53, or without a port, is bound to the address;
//   - requests are counted;
//   - forwarding to a resolv.conf that names no server, or only this one, is
//     left out (names outside the cluster then fail), and forwarding to
//     oneself is refused.
//
// notes say what was left out.
func adapt(text string, listen netip.AddrPort) (corefile string, notes []string, err error) {
	encoded, err := caddyfile.ToJSON([]byte(text))
	if err != nil {
		return "", nil, fmt.Errorf("cannot parse Corefile: %w", err)
	}
	var blocks caddyfile.EncodedCaddyfile
	if err := json.Unmarshal(encoded, &blocks); err != nil {
		return "", nil, fmt.Errorf("cannot parse Corefile: %w", err)
	}
	if len(blocks) == 0 {
		return "", nil, errors.New("cannot use Corefile: it has no server block")
	}
	for i := range blocks {
		b := &blocks[i]
		for k, key := range b.Keys {
			if b.Keys[k], err = listenKey(key, listen.Port()); err != nil {
				return "", nil, err
			}
		}
		body := [][]any{}
		has := map[string]bool{}
		for _, line := range b.Body {
			name, _ := line[0].(string)
			has[name] = true
			if name == "prometheus" || name == metricsDirective {
				continue // always on, and served with the process' metrics
			}
			if name == "forward" {
				kept, note, err := adaptForward(line, listen)
				if err != nil {
					return "", nil, err
				}
				if note != "" {
					notes = append(notes, note)
				}
				if kept == nil {
					continue
				}
				line = kept
			}
			body = append(body, line)
		}
		if !has["bind"] {
			body = slices.Insert(body, 0, []any{"bind", listen.Addr().String()})
		}
		b.Body = append(body, []any{metricsDirective})
	}
	if encoded, err = json.Marshal(blocks); err != nil {
		return "", nil, fmt.Errorf("cannot encode Corefile: %w", err)
	}
	out, err := caddyfile.FromJSON(encoded)
	if err != nil {
		return "", nil, fmt.Errorf("cannot encode Corefile: %w", err)
	}
	return string(out), notes, nil
}

// listenKey gives a server block's key the port to listen on.
func listenKey(key string, port uint16) (string, error) {
	scheme, rest, found := strings.Cut(key, "://")
	if !found {
		scheme, rest = "dns", key
	}
	if scheme != "dns" {
		return "", fmt.Errorf("cannot serve %q: only plain DNS is built in", key)
	}
	name, p := rest, "53"
	// A reverse zone in CIDR notation may hold colons only in IPv6.
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		if _, err := strconv.ParseUint(rest[i+1:], 10, 16); err == nil {
			name, p = rest[:i], rest[i+1:]
		}
	}
	if p == "53" {
		p = strconv.Itoa(int(port))
	}
	return name + ":" + p, nil
}

// adaptForward checks where a forward line leads. A nil line is left out.
func adaptForward(line []any, listen netip.AddrPort) (kept []any, note string, err error) {
	servers := 0
	for i, arg := range line {
		to, ok := arg.(string)
		if i < 2 || !ok {
			kept = append(kept, arg)
			continue
		}
		if !strings.HasPrefix(to, "/") {
			if self(to, listen) {
				return nil, "", fmt.Errorf("cannot forward to %s: it is this server", to)
			}
			servers++
			kept = append(kept, arg)
			continue
		}
		conf, err := mdns.ClientConfigFromFile(to)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, "", fmt.Errorf("cannot read forwarders from %q: %w", to, err)
		}
		if err != nil {
			continue
		}
		for _, s := range conf.Servers {
			if addr, err := netip.ParseAddr(s); err == nil && !self(s, listen) {
				servers++
				kept = append(kept, netip.AddrPortFrom(addr, 53).String())
			}
		}
	}
	if servers == 0 {
		return nil, fmt.Sprintf("no forwarder in %v; names outside the cluster fail", line[min(2, len(line)):]), nil
	}
	return kept, "", nil
}

// self tells whether a forwarder is this server.
func self(to string, listen netip.AddrPort) bool {
	to = strings.TrimPrefix(to, "dns://")
	if a, err := netip.ParseAddrPort(to); err == nil {
		return a == listen
	}
	a, err := netip.ParseAddr(to)
	return err == nil && netip.AddrPortFrom(a, 53) == listen
}
